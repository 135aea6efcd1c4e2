"""Whole and half volumes at sizes of a multiple."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from side_cohort import SHAPE, sided_cohort

from mtmed.data.crops import CropDataset
from mtmed.data.whole_volume_draw import VolumePart
from mtmed.errors import InputError
from mtmed.randomness import random_generator


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    return sided_cohort(tmp_path_factory.mktemp("cases"), [("kits", str(number), "LR") for number in range(3)])


class _Volumes(dict):
    """Stands for stored volumes of which a draw asks the shape alone."""

    class Volume:
        def __init__(self, shape):
            self.shape = shape


def drawn(shape, part="half", multiple=16, step=0):
    volumes = _Volumes({0: _Volumes.Volume(shape)})
    return VolumePart(part=part, multiple=multiple)(volumes, 0, random_generator(0, step, 0, "draw"))["patch"]


def test_a_whole_volume_has_zeros_alike_around_it(volumes):
    sample = CropDataset(volumes, VolumePart(), seed=0, global_batch_size=1)[0, 0]
    image = volumes[sample["volume"]].crop((0, 0, 0), SHAPE)["image"]
    # 24 x 16 x 14 -> 32 x 16 x 16
    np.testing.assert_array_equal(sample["image"].numpy(), np.pad(image, [(0, 0), (4, 4), (0, 0), (1, 1)]))
    assert sample["side"].shape == (1, 32, 16, 16)


def test_a_volume_of_a_multiple_is_read_as_it_is(volumes):
    sample = CropDataset(volumes, VolumePart(multiple=2), seed=0, global_batch_size=1)[0, 0]
    assert sample["image"].shape[1:] == SHAPE


@settings(max_examples=80, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 70)] * 3), multiple=st.integers(1, 20), part=st.sampled_from(["whole", "half"]))
def test_boxes_are_the_smallest_multiples_that_hold_the_part(shape, multiple, part):
    box = drawn(shape, part, multiple)
    extents = ((shape[0] + 1) // 2 if part == "half" else shape[0], *shape[1:])
    assert all(size % multiple == 0 and 0 <= size - n < multiple for size, n in zip(box.size, extents, strict=True))
    for axis in (0, 1, 2) if part == "whole" else (1, 2):
        before, after = -box.start[axis], box.start[axis] + box.size[axis] - shape[axis]
        assert after - before in (0, 1)


def test_both_halves_are_drawn_alike_and_cover_the_volume():
    boxes = [drawn((25, 16, 14), multiple=1, step=step) for step in range(1000)]
    starts = np.array([box.start[0] for box in boxes])
    assert set(starts) == {0, 12}
    assert {box.size for box in boxes} == {(13, 16, 14)}
    assert np.mean(starts == 0) == pytest.approx(0.5, abs=4 * 0.5 / 1000**0.5)


def test_the_left_half_has_the_smaller_indices_and_reaches_over_the_middle_where_widened():
    boxes = {drawn((24, 16, 16), step=step) for step in range(30)}
    assert {(box.start, box.size) for box in boxes} == {((-2, 0, 0), (16, 16, 16)), ((10, 0, 0), (16, 16, 16))}


def test_slices_are_drawn_as_well():
    assert drawn((20, 30), part="whole")[1:3] == ((-6, -1), (32, 32))


def test_other_options_are_refused():
    with pytest.raises(InputError, match="part: is 'quarter'; choose one of whole, half"):
        VolumePart(part="quarter")
    with pytest.raises(InputError, match="multiple: is 0"):
        VolumePart(multiple=0)
