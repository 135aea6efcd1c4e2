"""How a region is placed in its box and shown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import ResizeWithPadOrCrop
from side_cohort import LEFT, RIGHT, SHAPE, sided_cohort

from mtmed.data.crops import CropDataset
from mtmed.data.draw import Box
from mtmed.data.region import SIDES, Region, centred_start, read_region

SIZE = (10, 11, 12)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return sided_cohort(tmp_path_factory.mktemp("cases"), [("kits", "a", "LR")], channels=2)[0]


def whole(volume):
    return volume.crop((0, 0, 0), SHAPE)


def region_of(value, **options):
    return Region("side", value, **options)


def read(volume, region, size=SIZE):
    return read_region(volume, centred_start(volume, size, region), size, region)


def test_the_left_side_has_the_smaller_value():
    assert SIDES == {1: "left", 2: "right"}


def test_a_small_kidney_is_cut_out_by_its_mask_with_zeros_around_it(volume):
    for value, box in ((1, LEFT), (2, RIGHT)):
        arrays = whole(volume)
        inside = tuple(slice(low, high) for low, high in zip(box[:3], box[3:], strict=True))
        expected = arrays["image"][(slice(None), *inside)]
        image = read(volume, region_of(value))
        assert image.shape == (2, *SIZE)
        assert image.dtype == np.float32
        margin = [(length - high + low + 1) // 2 for length, low, high in zip(SIZE, box[:3], box[3:], strict=True)]
        place = tuple(slice(before, before + n) for before, n in zip(margin, expected.shape[1:], strict=True))
        np.testing.assert_array_equal(image[(slice(None), *place)], expected)
        image[(slice(None), *place)] = 0
        assert not image.any()


def test_an_oversized_kidney_loses_the_same_on_both_sides(volume):
    low, high = np.array(LEFT[:3]), np.array(LEFT[3:])
    size = tuple(int(length) for length in high - low - 2)
    image = read(volume, region_of(1), size)
    kidney = whole(volume)["image"][(slice(None), *map(slice, low, high))]
    np.testing.assert_array_equal(image, ResizeWithPadOrCrop(size)(kidney).numpy())
    np.testing.assert_array_equal(image, kidney[:, 1:-1, 1:-1, 1:-1])


def test_a_constant_region_is_one_inside_and_zero_outside(volume):
    region = region_of(1, constant=True)
    image = read(volume, region)
    side = volume.crop(centred_start(volume, SIZE, region), SIZE)["side"]
    np.testing.assert_array_equal(image, np.repeat(side == 1, 2, axis=0))
    assert image.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"constant": True}])
def test_mirroring_is_a_flip_of_the_first_axis_of_space(volume, options):
    plain, mirrored = region_of(2, **options), region_of(2, mirrored=True, **options)
    start = centred_start(volume, SIZE, mirrored)
    expected = np.flip(read_region(volume, start, SIZE, plain), axis=1)
    np.testing.assert_array_equal(read(volume, mirrored), expected)


@pytest.mark.parametrize("length", [5, 6, 7, 8, 9, 10])
def test_a_mirrored_box_has_the_margins_of_a_plain_one(volume, length):
    size = (length, 8, 8)
    for value in SIDES:
        plain = read(volume, region_of(value, constant=True), size)
        mirrored = read(volume, region_of(value, constant=True, mirrored=True), size)
        # the kidneys of this cohort are boxes, equal to their own mirror image
        np.testing.assert_array_equal(plain, mirrored)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(*[st.integers(1, 40)] * 3), value=st.sampled_from([1, 2]))
def test_the_box_has_the_centre_of_the_kidney(tmp_path_factory, size, value):
    # built once: the store keeps it
    folder = tmp_path_factory.getbasetemp() / "centre"
    volume = sided_cohort(folder, [("kits", "a", "LR")])[0]
    low, high = (np.array(end) for end in volume.bounds("side", value))
    off = np.array(centred_start(volume, size, region_of(value))) + np.array(size) / 2 - (low + high) / 2
    assert ((off == 0) | (off == -0.5)).all()


class _Fixed:
    def __init__(self, box):
        self.box = box

    def __call__(self, volumes, index, generator):
        return {"patch": self.box, "other": self.box._replace(region=None)}


def test_a_box_with_a_region_gives_its_image_and_value_alone(tmp_path):
    volumes = sided_cohort(tmp_path, [("kits", "a", "LR")])
    region = region_of(2, mirrored=True)
    draw = _Fixed(Box(0, (12, 2, 1), SIZE, region))
    sample = CropDataset(volumes, draw, seed=0, global_batch_size=1, patch_distance="voxel")[0, 0]
    assert set(sample) == {"image", "value", "volume", "dataset", "other", "step", "position"}
    assert sample["value"] == 2
    np.testing.assert_array_equal(sample["image"].numpy(), read_region(volumes[0], (12, 2, 1), SIZE, region))
    assert set(sample["other"]) == {"image", "side", "volume", "dataset"}


def test_a_region_that_is_not_there_is_a_mistake_of_the_caller(volume):
    with pytest.raises(ValueError, match="value 3 in 'side'"):
        centred_start(volume, SIZE, region_of(3))
    with pytest.raises(ValueError, match="the map is 'tissue', kits/0 has side"):
        read_region(volume, (0, 0, 0), SIZE, Region("tissue", 1))
