"""Boxes for segmentation and for an auxiliary task, of labelled and of unlabelled volumes."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from mtmed.data import AdjacentSlices, Case, CropDataset, EverySlice, RandomCrop, VolumeStore, crop_loader
from mtmed.data.separate_batches import SeparateBatches
from mtmed.errors import InputError
from mtmed.randomness import random_generator

SHAPE = (6, 20, 16)
SPACING = (5.0, 2.0, 4.0)
# in turns, so that the numbers of labelled volumes and those of all differ
LABELLED = [1, 3, 4]


def read(data):
    """Stands for a reader: the image tells the number of its case."""
    from monai.data import MetaTensor

    number = float(data["image"].rpartition("case")[2])
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    sample = {"image": MetaTensor(torch.full((1, *SHAPE), number + 1), affine=affine)}
    if "label" in data:
        sample["label"] = torch.zeros(1, *SHAPE)
        sample["label"][0, 2, 10:12, 3] = 1
    return sample


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    cases = []
    for number in range(6):
        path = folder / f"case{number}"
        path.write_text("")
        cases.append(Case(str(number), (str(path),), str(path) if number in LABELLED else None, str(number), "toy"))
    return VolumeStore(folder / "store", transforms=[read], distance="voxel").build(cases)


def slices(**options):
    return SeparateBatches(**{"segmentation": EverySlice(), "auxiliary": EverySlice(), **options})


def crops(**options):
    crop = RandomCrop(patch_size=(2, 4, 4))
    return SeparateBatches(**{"segmentation": crop, "auxiliary": crop, **options})


def samples(volumes, draw, number=400, size=8):
    dataset = CropDataset(volumes, draw, seed=1, global_batch_size=size)
    return [dataset[divmod(place, size)] for place in range(number)]


def drawn(volumes, draw, number=400):
    count = draw.count(volumes)
    return [draw(volumes, step % count, random_generator(0, step, 0, "draw")) for step in range(number)]


@pytest.mark.parametrize("segmentation", [EverySlice(), RandomCrop(patch_size=(2, 4, 4))], ids=["2D", "3D"])
def test_segmentation_sees_what_it_would_see_alone(volumes, segmentation):
    alone = CropDataset(volumes.select(LABELLED), segmentation, seed=1, global_batch_size=4)
    for options in ({"labelled_only": True}, {"labelled_only": False, "maps": False, "partner": True}):
        draw = SeparateBatches(segmentation=segmentation, auxiliary=segmentation, **options)
        both = CropDataset(volumes, draw, seed=1, global_batch_size=4)
        for key in itertools.product(range(10), range(4)):
            one, other = both[key], alone[key]
            assert LABELLED[other["volume"]] == one["volume"]
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["label"], other["label"])


def test_a_pass_has_every_labelled_slice_once(volumes):
    draw = slices(labelled_only=False, maps=False)
    assert draw.count(volumes) == 3 * SHAPE[0]
    seen = Counter((sample["volume"], sample["slice"]) for sample in samples(volumes, draw, 18))
    assert seen == Counter(itertools.product(LABELLED, range(SHAPE[0])))


def test_auxiliary_items_are_of_the_pool_each_alike(volumes):
    for options, expected in (({}, LABELLED), ({"labelled_only": False, "maps": False}, range(6))):
        boxes = [one["auxiliary"] for one in drawn(volumes, slices(**options), 3000)]
        counts = Counter((box.volume, box.start[0]) for box in boxes)
        assert set(counts) == set(itertools.product(expected, range(SHAPE[0])))
        mean = 3000 / len(counts)
        np.testing.assert_allclose(list(counts.values()), mean, atol=5 * mean**0.5)


def test_auxiliary_choices_do_not_depend_on_those_of_segmentation(volumes):
    boxes = drawn(volumes, slices(), 3000)
    same = np.mean([one["patch"].volume == one["auxiliary"].volume for one in boxes])
    assert same == pytest.approx(1 / 3, abs=0.05)


def test_pre_training_takes_every_item_of_the_pool_in_turn(volumes):
    for options, numbers in (({}, LABELLED), ({"labelled_only": False, "maps": False}, range(6))):
        draw = slices(segmentation=None, **options)
        expected = list(itertools.product(numbers, range(SHAPE[0])))
        assert draw.count(volumes) == len(expected)
        seen = Counter()
        for sample in samples(volumes, draw, len(expected)):
            assert set(sample) == {"step", "position", "auxiliary"}
            seen[sample["auxiliary"]["volume"], sample["auxiliary"]["slice"]] += 1
        assert seen == Counter(expected)


def test_segmentation_alone_is_a_draw_of_labelled_volumes(volumes):
    draw = slices(auxiliary=None)
    assert {one["patch"].volume for one in drawn(volumes, draw)} == set(LABELLED)
    assert all(set(one) == {"patch"} for one in drawn(volumes, draw))


def test_the_partner_of_a_slice_is_the_same_slice(volumes):
    for one in drawn(volumes, slices(partner=True, segmentation=None), 50):
        assert one["partner"] == one["auxiliary"]


@pytest.mark.parametrize("distance", [0, 6, 11, 500])
def test_the_partner_of_a_box_lies_anywhere_near_it(volumes, distance):
    crop = RandomCrop(patch_size=(2, 4, 4), foreground_probability=0)
    draw = SeparateBatches(segmentation=None, auxiliary=crop, partner=True, distance_mm=distance)
    offsets = set()
    for one in drawn(volumes, draw, 1500):
        box, partner = one["auxiliary"], one["partner"]
        assert partner == box._replace(start=partner.start)
        assert all(0 <= s <= n - k for s, n, k in zip(partner.start, SHAPE, box.size, strict=True))
        offsets.add(tuple(b - a for a, b in zip(box.start, partner.start, strict=True)))
    lengths = np.linalg.norm(np.array([*offsets]) * SPACING, axis=1)
    assert lengths.max() <= distance
    if distance in (0, 6, 11):
        reach = [range(-int(distance // size), int(distance // size) + 1) for size in SPACING]
        near = {o for o in itertools.product(*reach) if np.linalg.norm(np.multiply(o, SPACING)) <= distance}
        assert offsets == near
    else:
        assert lengths.max() > 50


def test_partners_are_each_place_alike(volumes):
    # 5 mm reach one slice further, and there is no room along the other axes
    crop = RandomCrop(patch_size=(1, *SHAPE[1:]), foreground_probability=0)
    draw = SeparateBatches(segmentation=None, auxiliary=crop, partner=True, distance_mm=5)
    pairs = Counter((one["auxiliary"].start[0], one["partner"].start[0]) for one in drawn(volumes, draw, 4000))
    at_edge = [pairs[0, place] for place in (0, 1)]
    inside = [pairs[2, place] for place in (1, 2, 3)]
    assert sum(at_edge) + sum(inside) == sum(n for (first, _), n in pairs.items() if first in (0, 2))
    for counts in (at_edge, inside):
        np.testing.assert_allclose(np.array(counts) / sum(counts), 1 / len(counts), atol=0.08)


def test_a_volume_smaller_than_the_box_stays_centred(volumes):
    draw = crops(auxiliary=RandomCrop(patch_size=(10, 4, 30)), partner=True)
    for one in drawn(volumes, draw, 50):
        assert (one["partner"].start[0], one["partner"].start[2]) == (-2, -7)


def test_labelled_and_unlabelled_images_make_one_batch(volumes):
    for draw in (slices(labelled_only=False, maps=False, partner=True), crops(labelled_only=False, maps=False)):
        dataset = CropDataset(volumes, draw, seed=1, global_batch_size=8)
        batch = next(iter(crop_loader(dataset, batch_size=8)))
        assert {"label", "distance"} <= set(batch)
        assert set(batch["volume"].tolist()) <= set(LABELLED)
        assert not set(batch["auxiliary"]["volume"].tolist()) <= set(LABELLED)
        for role in ("auxiliary", "partner")[: 2 if draw.partner else 1]:
            assert not {"label", "distance"} & set(batch[role])
            shown = batch[role]["image"].flatten(1).mean(1).round() - 1
            assert torch.equal(shown, batch[role]["volume"].float())


def test_auxiliary_samples_of_labelled_volumes_have_labels(volumes):
    batch = next(iter(crop_loader(CropDataset(volumes, crops(), seed=1, global_batch_size=4), batch_size=4)))
    assert {"label", "distance"} <= set(batch["auxiliary"])


def test_worker_processes_do_not_change_the_batches(volumes):
    draw = slices(labelled_only=False, maps=False, partner=True)
    both = [
        list(itertools.islice(crop_loader(CropDataset(volumes, draw, seed=1, global_batch_size=4), **options), 3))
        for options in ({"batch_size": 4}, {"batch_size": 4, "workers": 1})
    ]
    for one, other in zip(*both, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["auxiliary"]["image"], other["auxiliary"]["image"])


def test_labels_of_unlabelled_volumes_are_refused_before_the_first_batch(volumes):
    with pytest.raises(InputError, match=r"toy/0: has no label, and the auxiliary task .*\(3 cases have one\)"):
        CropDataset(volumes, slices(labelled_only=False), seed=0, global_batch_size=4)


def test_volumes_without_any_label_serve_an_unlabelled_pool_only(volumes):
    bare = volumes.select([0, 2, 5])
    for draw in (slices(), slices(segmentation=None), slices(labelled_only=False, maps=False)):
        with pytest.raises(InputError, match="none of the 3 cases has a label"):
            CropDataset(bare, draw, seed=0, global_batch_size=4)
    found = samples(bare, slices(segmentation=None, labelled_only=False, maps=False), 20)
    assert {sample["auxiliary"]["volume"] for sample in found} == {0, 1, 2}


def test_options_that_are_not_allowed_are_named():
    with pytest.raises(ValueError, match="auxiliary is a AdjacentSlices, which makes groups"):
        slices(auxiliary=AdjacentSlices(pairs=2))
    with pytest.raises(ValueError, match="give one of them"):
        slices(segmentation=None, auxiliary=None)
    with pytest.raises(InputError, match="distance_mm: is -1"):
        slices(distance_mm=-1)
