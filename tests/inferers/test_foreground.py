"""The foreground and its box against brute force."""

import numpy as np
import pytest
import torch
from monai.data.utils import dense_patch_slices

from mtmed.errors import InputError
from mtmed.inferers.foreground import foreground_box, foreground_mask, require_foreground


def test_negative_voxels_of_any_channel_are_not_zero():
    image = torch.zeros(2, 3, 4)
    image[0, 1, 2] = -0.5
    image[1, 2, 3] = 2.0
    assert foreground_mask(image, "nonzero").nonzero().tolist() == [[1, 2], [2, 3]]


def test_a_number_is_the_smallest_value_of_the_foreground():
    image = torch.tensor([[[-900.0, -500.0, -499.0, 30.0]]])
    assert foreground_mask(image, -500.0)[0].tolist() == [False, True, True, True]


@pytest.mark.parametrize("foreground", ["nonzero", 0.5])
def test_nan_counts_as_foreground(foreground):
    image = torch.zeros(1, 2, 2)
    image[0, 1, 1] = torch.nan
    assert foreground_mask(image, foreground).tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("foreground", ["brain", "0.5", True, None])
def test_other_options_are_refused(foreground):
    with pytest.raises(InputError, match=r'foreground: is .*give "nonzero" or'):
        require_foreground(foreground)


def test_no_foreground_has_no_box():
    assert foreground_box(torch.zeros(5, 6, 7, dtype=torch.bool), roi_size=(4, 4, 4), steps=(2, 2, 2)) is None


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (20, 20, slice(17, 25)),  # one voxel: a window around it
        (0, 2, slice(0, 8)),  # shifted into the volume
        (38, 39, slice(32, 40)),
        (10, 18, slice(9, 20)),  # 9 voxels need 2 windows of 8 at steps of 3, which cover 11
        (10, 17, slice(10, 18)),  # as long as the window
        (1, 38, slice(1, 39)),  # 38 = 8 + 10 * 3
        (0, 38, slice(0, 40)),  # 12 windows cover 41: the whole volume
    ],
)
def test_box_reaches_as_far_as_its_windows(first, last, expected):
    mask = torch.zeros(40, dtype=torch.bool)
    mask[[first, last]] = True
    assert foreground_box(mask, roi_size=(8,), steps=(3,)) == (expected,)


def test_box_smaller_than_the_window_in_a_smaller_volume_is_the_volume():
    mask = torch.zeros(6, 30, dtype=torch.bool)
    mask[2, 29] = True
    assert foreground_box(mask, roi_size=(8, 8), steps=(4, 4)) == (slice(0, 6), slice(22, 30))


@pytest.mark.parametrize("seed", range(20))
def test_box_holds_the_foreground_and_needs_no_more_windows_than_the_bounding_box(seed):
    generator = np.random.default_rng(seed)
    size = tuple(generator.integers(8, 40, 3))
    roi = tuple(int(side) for side in generator.integers(3, 9, 3))
    steps = tuple(int(generator.integers(1, side + 1)) for side in roi)
    mask = np.zeros(size, dtype=bool)
    mask[tuple(generator.integers(0, size, (int(generator.integers(1, 4)), 3)).T)] = True
    tight = [(np.argwhere(mask)[:, axis].min(), np.argwhere(mask)[:, axis].max() + 1) for axis in range(3)]
    box = foreground_box(torch.from_numpy(mask), roi_size=roi, steps=steps)
    assert box is not None
    assert mask[box].sum() == mask.sum()
    lengths = [side.stop - side.start for side in box]
    assert all(side.start >= 0 and side.stop <= length for side, length in zip(box, size, strict=True))
    tight_lengths = [max(int(high - low), side) for (low, high), side in zip(tight, roi, strict=True)]
    assert len(dense_patch_slices(lengths, roi, steps)) <= len(dense_patch_slices(tight_lengths, roi, steps))
