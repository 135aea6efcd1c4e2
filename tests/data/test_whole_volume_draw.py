"""Whole and half volumes as samples."""

import numpy as np
import pytest
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


def drawn(shape, part="half", step=0):
    volumes = _Volumes({0: _Volumes.Volume(shape)})
    return VolumePart(part=part)(volumes, 0, random_generator(0, step, 0, "draw"))["patch"]


def test_a_whole_volume_is_read_as_it_is(volumes):
    sample = CropDataset(volumes, VolumePart(), seed=0, global_batch_size=1)[0, 0]
    expected = volumes[sample["volume"]].crop((0, 0, 0), SHAPE)
    np.testing.assert_array_equal(sample["image"].numpy(), expected["image"])
    np.testing.assert_array_equal(sample["side"].numpy(), expected["side"])


@pytest.mark.parametrize(("length", "half"), [(24, 12), (25, 13), (1, 1)])
def test_both_halves_are_drawn_alike_and_cover_the_volume(length, half):
    boxes = [drawn((length, 16, 14), step=step) for step in range(1000)]
    starts = np.array([box.start[0] for box in boxes])
    assert set(starts) == {0, length - half}
    assert {box.size for box in boxes} == {(half, 16, 14)}
    assert {box.start[1:] for box in boxes} == {(0, 0)}
    if length > 1:
        assert np.mean(starts == 0) == pytest.approx(0.5, abs=4 * 0.5 / 1000**0.5)


def test_slices_are_drawn_as_well():
    assert drawn((20, 30), part="whole")[1:3] == ((0, 0), (20, 30))


def test_other_options_are_refused():
    with pytest.raises(InputError, match="part: is 'quarter'; choose one of whole, half"):
        VolumePart(part="quarter")
