"""The competition's score on masks whose scores can be worked out by hand, and against SciPy and MONAI."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import HausdorffDistanceMetric
from scipy import ndimage
from scipy.spatial.distance import directed_hausdorff

from mtmed.metrics import competition_dice, competition_score, normalised_hausdorff

SHAPE = (5, 10, 20)  # slices, rows, columns


def _mask(*voxels):
    mask = np.zeros(SHAPE, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def _random(seed, share=0.05):
    return np.random.default_rng(seed).random(SHAPE) < share


@pytest.mark.parametrize(
    ("voxel", "expected"),
    [
        ((2, 4, 10), 0.0),
        ((2, 4, 14), 4 / 20 / math.sqrt(3)),  # 4 of 20 columns
        ((2, 9, 10), 5 / 10 / math.sqrt(3)),  # 5 of 10 rows
        ((4, 4, 10), 2 / 5 / math.sqrt(3)),  # 2 of 5 slices
        ((3, 7, 14), math.sqrt((1 / 5) ** 2 + (3 / 10) ** 2 + (4 / 20) ** 2) / math.sqrt(3)),
    ],
)
def test_single_voxels_are_apart_by_their_share_of_each_side(voxel, expected):
    assert normalised_hausdorff(_mask(voxel), _mask((2, 4, 10))) == pytest.approx(expected, abs=1e-15)


def test_the_farther_direction_counts():
    reference = _mask((2, 4, 10))
    prediction = _mask((2, 4, 10), (2, 4, 19))
    for one, other in ((prediction, reference), (reference, prediction)):
        assert normalised_hausdorff(one, other) == pytest.approx(9 / 20 / math.sqrt(3), abs=1e-15)


def test_a_hollow_reference_is_far_from_the_middle_of_a_solid_prediction():
    solid = np.zeros((9, 9, 9), bool)
    solid[1:8, 1:8, 1:8] = True
    hollow = solid.copy()
    hollow[2:7, 2:7, 2:7] = False
    # the centre is 3 voxels from the shell; distances of surfaces alone would be 0
    assert normalised_hausdorff(solid, hollow) == pytest.approx(3 / 9 / math.sqrt(3), abs=1e-15)


@pytest.mark.parametrize("seed", range(6))
def test_distance_equals_scipys_between_all_voxels(seed):
    masks = _random(seed, 0.02 + 0.05 * seed), _random(seed + 100, 0.03)
    points = [np.argwhere(mask) / SHAPE for mask in masks]
    expected = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0]) / math.sqrt(3)
    assert normalised_hausdorff(*masks) == pytest.approx(expected, rel=1e-12)
    assert normalised_hausdorff(*masks[::-1]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("share", [0.0005, 0.02, 0.6])
def test_distance_in_large_masks_equals_that_of_distance_maps(share):
    generator = np.random.default_rng(0)
    shape = (21, 40, 35)
    masks = generator.random(shape) < share, ndimage.binary_dilation(generator.random(shape) < 0.0005, iterations=4)
    step = [1 / side for side in shape]
    ways = (masks, masks[::-1])
    expected = max(ndimage.distance_transform_edt(~there, sampling=step)[here].max() for here, there in ways)
    assert normalised_hausdorff(*masks) == pytest.approx(expected / math.sqrt(3), rel=1e-12)


def test_distance_of_solid_blocks_equals_monais():
    masks = np.zeros((2, *SHAPE), bool)
    masks[0, 1:4, 2:7, 3:9] = True
    masks[1, 0:3, 3:9, 6:15] = True
    metric = HausdorffDistanceMetric(include_background=True)
    prediction, reference = (torch.from_numpy(mask[None, None]) for mask in masks)
    expected = metric(prediction, reference, spacing=[1 / side for side in SHAPE])
    assert normalised_hausdorff(*masks) == pytest.approx(float(expected) / math.sqrt(3), rel=1e-6)


def test_distance_depends_on_neither_the_place_nor_the_resolution():
    one, other = _mask((1, 2, 3), (2, 4, 9)), _mask((1, 3, 5), (2, 2, 2))
    distance = normalised_hausdorff(one, other)
    assert normalised_hausdorff(np.roll(one, 4, axis=2), np.roll(other, 4, axis=2)) == pytest.approx(distance)
    # only the corner of each block, as its voxels are moved apart by as much as the image grows
    finer = [np.kron(mask, np.pad(np.ones((1, 1, 1), bool), ((0, 1),) * 3)) > 0 for mask in (one, other)]
    assert normalised_hausdorff(*finer) == pytest.approx(distance)


def test_opposite_corners_are_less_than_1_apart():
    first, last = _mask((0, 0, 0)), _mask(tuple(side - 1 for side in SHAPE))
    assert 0.8 < normalised_hausdorff(first, last) < 1


@pytest.mark.parametrize(("rule", "expected"), [("nan", math.nan), ("zero", 1.0), ("one", 0.0)])
def test_distance_of_empty_masks_follows_the_rule(rule, expected):
    nothing, something = _mask(), _mask((1, 1, 1))
    assert normalised_hausdorff(nothing, nothing, empty=rule) == pytest.approx(expected, nan_ok=True)
    assert normalised_hausdorff(nothing, something, empty=rule) == 1
    assert math.isnan(normalised_hausdorff(something, nothing, empty=rule))


def test_false_positives_in_a_slice_cost_unless_the_whole_scan_lacks_the_organ():
    reference = _mask((0, 0, 0), (0, 0, 1), (1, 5, 5))
    prediction = _mask((0, 0, 1), (0, 0, 2), (2, 5, 5))
    # 2 * 1 / 4, missed, false positive, nothing, nothing
    np.testing.assert_array_equal(competition_dice(prediction, reference), [0.5, 0, 0, math.nan, math.nan])
    np.testing.assert_array_equal(competition_dice(prediction, reference, empty="zero"), [0.5, 0, 0, 0, 0])
    np.testing.assert_array_equal(competition_dice(prediction, reference, empty="one"), [0.5, 0, 0, 1, 1])
    for rule in ("nan", "zero", "one"):
        assert np.isnan(competition_dice(prediction, _mask(), empty=rule)).all()
    np.testing.assert_array_equal(competition_dice(_mask(), _mask(), empty="one"), np.ones(5))
    assert np.isnan(competition_dice(_mask(), _mask())).all()


def test_score_weighs_dice_by_2_and_distance_by_3_of_5():
    assert competition_score(1.0, 0.0) == 1
    assert competition_score(0.0, 1.0) == 0
    assert competition_score(0.5, 0.25) == pytest.approx(0.4 * 0.5 + 0.6 * 0.75)
    assert math.isnan(competition_score(math.nan, 0.5))
