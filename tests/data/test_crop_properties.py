"""A crop from the store is the crop of the array, wherever the box lies."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtmed.data.case import Case
from mtmed.data.volume_store import VolumeStore

SHAPES = ((9, 7, 5), (1, 6, 4), (13, 1, 1))
MARGIN = 30


def _arrays(number):
    generator = torch.Generator().manual_seed(number)
    shape = SHAPES[number]
    label = (torch.rand((1, *shape), generator=generator) * 3).long().float()
    return {"image": torch.rand((2, *shape), generator=generator) * 900 - 300, "label": label}


def read(data):
    """Stands for a reader: voxels follow from the name of the file."""
    return _arrays(int(data["image"][-1]))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    cases = []
    for number in range(len(SHAPES)):
        path = folder / f"case{number}"
        path.write_text("")
        cases.append(Case(str(number), (str(path),), str(path), str(number), "Toy"))
    return VolumeStore(folder / "store", transforms=[read], distance="voxel").build(cases)


STARTS, SIZES = (st.tuples(*[st.integers(low, high)] * 3) for low, high in ((-MARGIN + 14, 14), (1, 14)))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(SHAPES) - 1), STARTS, SIZES)
@example(0, (9, 0, 0), (3, 3, 3))  # touches the volume from outside
@example(0, (-3, 0, 0), (3, 7, 5))
@example(0, (-2, -2, -2), (13, 11, 9))  # the volume lies inside the box
@example(1, (0, 0, 0), (1, 6, 4))
def test_a_crop_is_the_part_of_the_padded_array(volumes, number, start, size):
    crop = volumes[number].crop(start, size)
    arrays = _arrays(number)
    index = tuple(slice(MARGIN + first, MARGIN + first + length) for first, length in zip(start, size, strict=True))
    for name, dtype in (("image", np.float32), ("label", np.uint8)):
        expected = np.pad(arrays[name].numpy(), [(0, 0)] + [(MARGIN, MARGIN)] * 3)[(slice(None), *index)]
        assert crop[name].shape == expected.shape
        assert crop[name].dtype == dtype
        # images are kept in 16 bits: half a step of their range, and exactly 0 outside
        np.testing.assert_allclose(crop[name], expected, rtol=0, atol=900 / 65535 if name == "image" else 0)
        outside = np.pad(np.zeros_like(arrays[name].numpy()), [(0, 0)] + [(MARGIN, MARGIN)] * 3, constant_values=1)
        assert not crop[name][outside[(slice(None), *index)] == 1].any()


@settings(max_examples=40, deadline=None)
@given(STARTS, SIZES, st.tuples(*[st.integers(0, 4)] * 3), SIZES)
def test_a_crop_of_a_crop_is_the_crop_at_the_sum_of_the_starts(volumes, start, size, inner, inner_size):
    kept = tuple(min(length, whole - first) for first, length, whole in zip(inner, inner_size, size, strict=True))
    if min(kept) < 1:
        return
    outer = volumes[0].crop(start, size)
    direct = volumes[0].crop([a + b for a, b in zip(start, inner, strict=True)], kept)
    part = tuple(slice(first, first + length) for first, length in zip(inner, kept, strict=True))
    for name, values in direct.items():
        np.testing.assert_array_equal(values, outer[name][(slice(None), *part)])
