import itertools

import numpy as np
import pytest
import torch

from mtmed.data.case import Case
from mtmed.data.crops import CropDataset, StepBatchSampler, collate_crops, crop_loader
from mtmed.data.distance import boundary_distance
from mtmed.data.draw import PatchPair, RandomCrop
from mtmed.data.volume_store import VolumeStore
from mtmed.errors import InputError

SHAPE = (14, 12, 10)


def read(data):
    """Stands for a reader: voxels follow from the name of the file."""
    generator = torch.Generator().manual_seed(sum(data["image"].encode()[-3:]))
    sample = {"image": torch.rand((2, *SHAPE), generator=generator)}
    if "label" in data:
        sample["label"] = (torch.rand((1, *SHAPE), generator=generator) > 0.7).float()
    return sample


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    cases = []
    for number in range(7):
        path = folder / f"case{number:03}"
        path.write_text("")
        cases.append(Case(str(number), (str(path),), str(path) if number < 6 else None, "", "ab"[number % 2]))
    return VolumeStore(folder / "store", transforms=[read], distance="voxel").build(cases)


def dataset(volumes, *, seed=3, size=4):
    return CropDataset(volumes, PatchPair(patch_size=(6, 5, 4)), seed=seed, global_batch_size=size)


def take(loader, number=5):
    return list(itertools.islice(loader, number))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, dict):
            assert_same(value, second[name])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        else:
            assert value == second[name], name


def test_batch_has_the_agreed_form(volumes):
    batch = take(crop_loader(dataset(volumes[:6]), batch_size=4), 1)[0]
    assert batch["image"].shape == (4, 2, 6, 5, 4)
    assert batch["label"].shape == batch["distance"].shape == (4, 1, 6, 5, 4)
    assert (batch["image"].dtype, batch["label"].dtype, batch["distance"].dtype) == (
        torch.float32,
        torch.uint8,
        torch.float32,
    )
    assert set(batch["auxiliary"]) == {"image", "label", "distance", "volume", "dataset"}
    assert batch["step"] == 0
    assert batch["positions"].tolist() == [0, 1, 2, 3]
    for part in (batch, batch["auxiliary"]):
        assert part["volume"].dtype == part["dataset"].dtype == torch.int64
        assert (part["volume"] % 2 == part["dataset"]).all()
    assert torch.equal(batch["dataset"], batch["auxiliary"]["dataset"])


def test_crops_are_those_of_the_drawn_boxes(volumes):
    data = dataset(volumes[:6])
    sample = data[2, 1]
    for role in (sample, sample["auxiliary"]):
        whole = volumes[role["volume"]].crop((0, 0, 0), SHAPE)["image"]
        windows = np.lib.stride_tricks.sliding_window_view(whole, (2, 6, 5, 4))[0]
        assert (np.abs(windows - role["image"].numpy()).max(axis=(-4, -3, -2, -1)) < 1e-7).any()


def test_distance_of_the_patch_replaces_that_of_the_volume(volumes):
    source = CropDataset(
        volumes[:6], RandomCrop(patch_size=(6, 5, 4)), seed=3, global_batch_size=4, patch_distance="voxel"
    )
    sample = source[0, 0]
    expected = boundary_distance(sample["label"][0].numpy())
    np.testing.assert_array_equal(sample["distance"][0].numpy(), expected)
    volume = CropDataset(volumes[:6], source.draw, seed=3, global_batch_size=4)[0, 0]
    assert torch.equal(volume["label"], sample["label"])
    assert (volume["distance"] <= sample["distance"]).all()


def test_every_case_is_seen_once_per_pass_in_changing_order(volumes):
    data = dataset(volumes, size=3)
    seen = [data.case_index(step, position) for step in range(14) for position in range(3)]
    passes = [seen[i : i + 7] for i in range(0, 42, 7)]
    assert all(sorted(turn) == list(range(7)) for turn in passes)
    assert len({tuple(turn) for turn in passes}) > 4
    assert [data.case_index(step, 0) for step in (13, 0, 7)] == [seen[39], seen[0], seen[21]]


def test_workers_change_nothing(volumes):
    for ours, theirs in zip(
        take(crop_loader(dataset(volumes[:6]), batch_size=4)),
        take(crop_loader(dataset(volumes[:6]), batch_size=4, workers=2)),
        strict=True,
    ):
        assert_same(ours, theirs)


def test_two_processes_of_one_sample_see_what_one_process_of_two_sees(volumes):
    joint = take(crop_loader(dataset(volumes[:6], size=2), batch_size=2))
    parts = []
    for rank in range(2):
        sampler = StepBatchSampler(batch_size=1, rank=rank, world_size=2)
        parts.append(take(crop_loader(dataset(volumes[:6], size=2), batch_size=1, sampler=sampler)))
    for batch, first, second in zip(joint, *parts, strict=True):
        assert torch.equal(batch["image"], torch.cat([first["image"], second["image"]]))
        assert torch.equal(batch["positions"], torch.cat([first["positions"], second["positions"]]))
        auxiliary = [part["auxiliary"]["label"] for part in (first, second)]
        assert torch.equal(batch["auxiliary"]["label"], torch.cat(auxiliary))


def test_resumed_loader_continues_with_the_same_batches(volumes):
    uninterrupted = take(crop_loader(dataset(volumes[:6]), batch_size=4), 6)
    loader = crop_loader(dataset(volumes[:6]), batch_size=4)
    loader.batch_sampler.start_step = 4
    for ours, theirs in zip(take(loader, 2), uninterrupted[4:], strict=True):
        assert_same(ours, theirs)


def test_seeds_and_steps_differ(volumes):
    first, second = (take(crop_loader(dataset(volumes[:6], seed=s), batch_size=4), 2) for s in (0, 1))
    assert not torch.equal(first[0]["image"], second[0]["image"])
    assert not torch.equal(first[0]["image"], first[1]["image"])


class _Failing(RandomCrop):
    def __call__(self, volumes, index, generator):
        raise InputError("liver_3.nii.gz", "is damaged", "copy it again")


@pytest.mark.parametrize("workers", [0, 1])
def test_input_errors_arrive_unchanged_from_workers(volumes, workers):
    data = CropDataset(volumes, _Failing(patch_size=(4, 4, 4)), seed=0, global_batch_size=1)
    with pytest.raises(InputError) as caught:
        take(crop_loader(data, batch_size=1, workers=workers))
    assert str(caught.value) == "liver_3.nii.gz: is damaged; copy it again"


def test_batch_of_labelled_and_unlabelled_cases_is_refused(volumes):
    data = CropDataset(volumes, RandomCrop(patch_size=(4, 4, 4)), seed=0, global_batch_size=7)
    with pytest.raises(InputError, match=r"label: 1 of 7 samples"):
        take(crop_loader(data, batch_size=7), 1)
    assert "label" not in collate_crops([data[key] for key in keys_of(data, 6)])


def keys_of(data, volume):
    return [(0, p) for p in range(7) if data.case_index(0, p) == volume]


def test_wrong_sizes_are_refused(volumes):
    with pytest.raises(InputError, match="batch_size"):
        crop_loader(dataset(volumes, size=4), batch_size=3)
    with pytest.raises(InputError, match="no case"):
        dataset(volumes[:0])
    with pytest.raises(InputError, match="rank"):
        StepBatchSampler(batch_size=1, rank=2, world_size=2)
