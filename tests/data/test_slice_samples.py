"""Slices as samples and batches: what they hold, and that only seed, step and position decide."""

import itertools

import numpy as np
import pytest
import torch
from slice_cohort import HEIGHT, WIDTH, expected_channel, scan_cohort

from mtmed.data.crops import CropDataset, StepBatchSampler, collate_crops, crop_loader
from mtmed.data.distance import boundary_distance
from mtmed.data.draw import Box
from mtmed.data.slice_draws import AdjacentSlices, EverySlice
from mtmed.data.slice_reading import read_slice
from mtmed.errors import InputError

ROWS = [("p1", 7), ("p2", 12), ("p1", 3), ("p3", 9)]
SIZES = [{"pixel_height": 1.5, "pixel_width": 1.0 + number} for number in range(4)]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return scan_cohort(tmp_path_factory.mktemp("scans"), ROWS, channels=2, foreground=range(12), facts=SIZES)


def image_of(volume, indices):
    return torch.stack([expected_channel(volume, channel, index) for index in indices for channel in range(2)])


def close(ours, theirs):
    # 16 bits of a range of about 250
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=2e-3)


def data_set(volumes, draw=None, *, seed=3, size=8, **options):
    draw = draw or AdjacentSlices(pairs=1, minimum_distance=2, slice_offsets=[-1, 0])
    return CropDataset(volumes, draw, seed=seed, global_batch_size=size, **options)


def take(loader, number=6):
    return list(itertools.islice(loader, number))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[name])), name


@pytest.mark.parametrize(
    ("offsets", "index", "shown"),
    [
        ([0], 3, [3]),
        ([0, 0, 0], 3, [3, 3, 3]),
        ([-2, 0, 2], 3, [1, 3, 5]),
        ([-2, 0, 2], 0, [0, 0, 2]),
        ([-2, 0, 2], 1, [0, 1, 3]),
        ([-2, 0, 2], 6, [4, 6, 6]),
        ([3, -9], 5, [6, 0]),
    ],
)
def test_neighbours_become_channels_and_edge_slices_are_repeated(volumes, offsets, index, shown):
    box = Box(0, (index, 0, 0), (1, HEIGHT, WIDTH), slice_offsets=tuple(offsets))
    arrays = read_slice(volumes[0], box)
    close(arrays["image"], image_of(0, shown))
    whole = volumes[0].crop((0, 0, 0), volumes[0].shape)
    np.testing.assert_array_equal(arrays["label"], whole["label"][:, index], "of the slice itself")
    assert arrays["image"].flags["C_CONTIGUOUS"]


def test_a_part_of_a_slice_can_be_read(volumes):
    arrays = read_slice(volumes[1], Box(1, (4, -1, 1), (1, 4, 2), slice_offsets=(1, 0)))
    padded = torch.nn.functional.pad(image_of(1, [5, 4]), (0, 0, 1, 0))
    close(arrays["image"], padded[:, :4, 1:3])


@pytest.mark.parametrize(
    "box",
    [
        Box(0, (7, 0, 0), (1, 6, 4), slice_offsets=(0,)),
        Box(0, (-1, 0, 0), (1, 6, 4), slice_offsets=(0,)),
        Box(0, (0, 0, 0), (2, 6, 4), slice_offsets=(0,)),
        Box(0, (0, 0, 0), (1, 6, 4)),
    ],
)
def test_a_box_that_is_no_slice_is_a_mistake(volumes, box):
    with pytest.raises(ValueError, match="scans/0 has 7 slices"):
        read_slice(volumes[0], box)


def test_batch_of_slices_has_the_agreed_form(volumes):
    features = ["slice_position", "pixel_width", "case_number"]
    data = data_set(volumes, EverySlice(slice_offsets=[-1, 0, 1]), size=5, features=features)
    batch = take(crop_loader(data, batch_size=5), 1)[0]
    assert batch["image"].shape == (5, 6, HEIGHT, WIDTH)
    assert batch["label"].shape == (5, 1, HEIGHT, WIDTH)
    assert (batch["image"].dtype, batch["label"].dtype) == (torch.float32, torch.uint8)
    assert batch["slice"].dtype == torch.int64
    assert batch["slice_position"].dtype == batch["condition"].dtype == torch.float32
    assert batch["group"].tolist() == batch["positions"].tolist() == [0, 1, 2, 3, 4]
    for image, volume, index, position, condition in zip(
        *(batch[name] for name in ("image", "volume", "slice", "slice_position", "condition")), strict=True
    ):
        last = ROWS[volume][1] - 1
        shown = [min(max(int(index) + offset, 0), last) for offset in (-1, 0, 1)]
        close(image, image_of(int(volume), shown))
        assert position == pytest.approx(int(index) / last)
        np.testing.assert_allclose(condition, [position, 1.0 + volume, np.nan])


def test_a_batch_of_groups_says_which_samples_belong_together(volumes):
    draw = AdjacentSlices(pairs=2, minimum_distance=2)
    batch = take(crop_loader(data_set(volumes.select([0, 1, 3]), draw, size=12), batch_size=12), 1)[0]
    assert batch["group"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert [len(set(batch["volume"][start : start + 4].tolist())) for start in (0, 4, 8)] == [1, 1, 1]
    assert batch["volume"][::4].sort().values.tolist() == [0, 1, 2], "each scan once per pass"
    assert (batch["slice"][1::2] - batch["slice"][::2]).tolist() == [1] * 6
    assert "condition" not in batch


def test_every_slice_is_seen_once_per_pass_across_batches(volumes):
    data = data_set(volumes, EverySlice(), size=4)
    samples = [data[step, position] for step in range(16) for position in range(4)][:62]
    seen = [(sample["volume"], sample["slice"]) for sample in samples]
    expected = sorted((volume, index) for volume, (_, slices) in enumerate(ROWS) for index in range(slices))
    assert sorted(seen[:31]) == sorted(seen[31:]) == expected
    assert seen[:31] != seen[31:]


@pytest.mark.parametrize("draw", [None, EverySlice(slice_offsets=[-2, 0, 2], foreground_probability=0.5)])
def test_workers_change_nothing(volumes, draw):
    options = {"features": ["slice_position", "pixel_height"]}
    alone = take(crop_loader(data_set(volumes, draw, **options), batch_size=8))
    shared = take(crop_loader(data_set(volumes, draw, **options), batch_size=8, workers=2))
    for ours, theirs in zip(alone, shared, strict=True):
        assert_same(ours, theirs)
    assert not torch.equal(alone[0]["image"], alone[1]["image"])


@pytest.mark.parametrize("draw", [None, EverySlice()])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_see_together_what_one_sees(volumes, draw, processes):
    joint = take(crop_loader(data_set(volumes, draw), batch_size=8))
    parts = []
    for rank in range(processes):
        sampler = StepBatchSampler(batch_size=8 // processes, rank=rank, world_size=processes)
        parts.append(take(crop_loader(data_set(volumes, draw), batch_size=8 // processes, sampler=sampler)))
    for batch, *shares in zip(joint, *parts, strict=True):
        for name in ("image", "label", "group", "slice", "slice_position", "volume", "positions"):
            assert torch.equal(batch[name], torch.cat([share[name] for share in shares])), name


def test_samples_may_be_read_in_any_order(volumes):
    keys = [(step, position) for step in range(3) for position in range(8)]
    forward = [data_set(volumes)[key] for key in keys]
    data = data_set(volumes)
    backward = [data[key] for key in reversed(keys)][::-1]
    assert_same(collate_crops(forward), collate_crops(backward))


def test_a_resumed_loader_goes_on_with_the_same_groups(volumes):
    uninterrupted = take(crop_loader(data_set(volumes), batch_size=8), 6)
    loader = crop_loader(data_set(volumes), batch_size=8)
    loader.batch_sampler.start_step = 4
    for ours, theirs in zip(take(loader, 2), uninterrupted[4:], strict=True):
        assert_same(ours, theirs)


def test_groups_are_not_cut(volumes):
    draw = AdjacentSlices(pairs=2, minimum_distance=2)
    scans = volumes[:2]
    with pytest.raises(InputError, match="global_batch_size: is 6, the draw makes groups of 4 samples; give a mult"):
        data_set(scans, draw, size=6)
    sampler = StepBatchSampler(batch_size=2, rank=0, world_size=2)
    with pytest.raises(InputError, match="batch_size: is 2 per process, the draw makes groups of 4 samples"):
        crop_loader(data_set(scans, draw, size=4), batch_size=2, sampler=sampler)


def test_scans_too_short_for_the_pairs_are_named_before_the_first_step(volumes):
    with pytest.raises(InputError, match=r"pairs: is 2, .* scans/2 \(1\)"):
        data_set(volumes, AdjacentSlices(pairs=2, minimum_distance=2))


def test_distance_of_a_slice_is_measured_within_it(volumes):
    data = data_set(volumes, EverySlice(), size=1, patch_distance="voxel")
    sample = data[0, 0]
    expected = boundary_distance(sample["label"][0].numpy())
    np.testing.assert_array_equal(sample["distance"][0].numpy(), expected)
