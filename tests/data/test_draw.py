import numpy as np
import pytest

from mtmed.data.case import Case
from mtmed.data.draw import PatchPair, RandomCrop
from mtmed.data.volume_store import VolumeStore
from mtmed.errors import InputError

SHAPE = (20, 16, 12)


def write(data):
    """Stands for a reader: the label holds a large and a small organ, the last case of a set is empty."""
    import torch

    label = torch.zeros((1, *SHAPE))
    if "empty" not in data["label"]:
        label[0, 2:10, 2:10, 2:10] = 1
        label[0, 15, 12, 9] = 2
    return {"image": torch.zeros((1, *SHAPE)), "label": label}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    cases = []
    for dataset, ids in (("first", ["a", "b", "c"]), ("second", ["d", "e"]), ("alone", ["f"]), ("none", ["empty"])):
        for name in ids:
            path = folder / f"{dataset}-{name}"
            path.write_text("")
            cases.append(Case(name, (str(path),), str(path), name, dataset))
    return VolumeStore(folder / "store", transforms=[write]).build(cases)


def draws(draw, volumes, index, number=2000):
    generator = np.random.default_rng(0)
    return [draw(volumes, index, generator) for _ in range(number)]


def test_box_lies_inside_the_volume(volumes):
    for box in (draw["patch"] for draw in draws(RandomCrop(patch_size=(7, 8, 5)), volumes, 1, 500)):
        assert box.volume == 1
        assert box.size == (7, 8, 5)
        assert all(0 <= start <= n - size for start, n, size in zip(box.start, SHAPE, box.size, strict=True))


def test_every_place_is_drawn_alike_without_foreground(volumes):
    draw = RandomCrop(patch_size=(17, 13, 12), foreground_probability=1.0)
    counts = np.zeros((4, 4))
    for box in (d["patch"] for d in draws(draw, volumes, 6, 4000)):
        counts[box.start[:2]] += 1
        assert box.start[2] == 0
    np.testing.assert_allclose(counts, 250, atol=5 * 250**0.5)


def test_small_and_large_classes_are_centred_on_equally_often(volumes):
    draw = RandomCrop(patch_size=(1, 1, 1), foreground_probability=0.8)
    label = volumes[0].crop((0, 0, 0), SHAPE)["label"][0]
    values = [label[d["patch"].start] for d in draws(draw, volumes, 0, 4000)]
    shares = np.bincount(values, minlength=3) / 4000
    background = 0.2 * (label == 0).mean()
    np.testing.assert_allclose(shares[2], 0.4 + 0.2 * (label == 2).mean(), atol=0.04)
    np.testing.assert_allclose(shares[0], background, atol=0.04)


def test_foreground_box_contains_foreground_and_background_probability_is_kept(volumes):
    label = volumes[0].crop((0, 0, 0), SHAPE)["label"][0]
    for box in (d["patch"] for d in draws(RandomCrop(patch_size=(4, 4, 4), foreground_probability=1), volumes, 0, 300)):
        inside = label[tuple(slice(s, s + n) for s, n in zip(box.start, box.size, strict=True))]
        assert inside.any()


def test_volume_smaller_than_the_box_is_centred(volumes):
    for probability in (0, 1):
        box = RandomCrop(patch_size=(26, 8, 15), foreground_probability=probability)(
            volumes, 0, np.random.default_rng(0)
        )["patch"]
        assert (box.start[0], box.start[2]) == (-3, -1)
        assert 0 <= box.start[1] <= 8


def test_auxiliary_is_of_the_same_case_half_of_the_time_and_always_of_the_same_data_set(volumes):
    partners = np.array([d["auxiliary"].volume for d in draws(PatchPair(patch_size=(4, 4, 4)), volumes, 1)])
    assert set(partners) == {0, 1, 2}
    assert np.mean(partners == 1) == pytest.approx(0.5, abs=0.05)
    assert np.mean(partners == 0) == pytest.approx(0.25, abs=0.05)
    assert {d["auxiliary"].volume for d in draws(PatchPair(patch_size=(4, 4, 4)), volumes, 3, 50)} == {3, 4}


def test_single_case_of_a_data_set_gives_both_boxes(volumes):
    pairs = draws(PatchPair(patch_size=(4, 4, 4), same_image_probability=0), volumes, 5, 50)
    assert {d["auxiliary"].volume for d in pairs} == {5}
    assert any(d["auxiliary"].start != d["patch"].start for d in pairs)


def test_same_generator_gives_the_same_boxes(volumes):
    draw = PatchPair(patch_size=(5, 5, 5))
    assert draws(draw, volumes, 2, 20) == draws(draw, volumes, 2, 20)


@pytest.mark.parametrize("size", [(0, 4, 4), (4,), (4.5, 4, 4)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match="patch_size"):
        RandomCrop(patch_size=size)


def test_impossible_probabilities_and_dimensions_are_refused(volumes):
    with pytest.raises(InputError, match="same_image_probability"):
        PatchPair(patch_size=(4, 4, 4), same_image_probability=1.5)
    with pytest.raises(InputError, match="3 dimensions"):
        RandomCrop(patch_size=(4, 4))(volumes, 0, np.random.default_rng(0))
