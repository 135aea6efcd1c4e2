"""Scores of a case against SimpleITK and a plain float64 computation."""

import math

import numpy as np
import pytest
import SimpleITK
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from mtmed.metrics import OrganScore, score_case, score_masks

SPACING = (0.8, 1.3, 2.7)


def _pair(seed, shape=(26, 22, 15)):
    rng = np.random.default_rng(seed)
    blobs = [ndimage.gaussian_filter(rng.normal(size=shape), 2.5) for _ in range(2)]
    first = blobs[0] > np.quantile(blobs[0], 0.8)
    mixed = 0.8 * blobs[0] + 0.4 * blobs[1]
    return mixed > np.quantile(mixed, 0.82), first


def _surface_distances(prediction, reference):
    """Float64 reference: coordinates of surface voxels, all pairs."""
    points = []
    for mask in (prediction, reference):
        padded = np.pad(mask, 1)
        inner = np.ones_like(padded)
        for axis in range(3):
            for shift in (1, -1):
                inner &= np.roll(padded, shift, axis)
        points.append(np.argwhere(padded & ~inner) * np.asarray(SPACING))
    apart = np.sqrt(((points[0][:, None] - points[1][None]) ** 2).sum(-1))
    return apart.min(1), apart.min(0)


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_a_plain_computation_in_float64(seed):
    prediction, reference = _pair(seed)
    dice, hd95, surface = score_masks(prediction, reference, SPACING, tolerance=1.5)
    forth, back = _surface_distances(prediction, reference)
    assert dice == pytest.approx(2 * (prediction & reference).sum() / (prediction.sum() + reference.sum()), abs=1e-12)
    assert hd95 == pytest.approx(max(np.quantile(forth, 0.95), np.quantile(back, 0.95)), abs=1e-3)
    near = ((forth <= 1.5).sum() + (back <= 1.5).sum()) / (len(forth) + len(back))
    assert surface == pytest.approx(near, abs=1e-6)
    assert 0 < surface < 1


def test_scores_equal_monais():
    prediction, reference = _pair(11)
    tensors = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": SPACING}
    _, hd95, surface = score_masks(prediction, reference, SPACING, tolerance=1.5)
    assert hd95 == pytest.approx(float(compute_hausdorff_distance(*tensors, percentile=95, **options)), abs=1e-3)
    assert surface == pytest.approx(float(compute_surface_dice(*tensors, [1.5], **options)), abs=1e-6)


def test_dice_equals_simpleitk():
    prediction, reference = _pair(7)
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)))
    assert score_masks(prediction, reference, SPACING)[0] == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-9)


def test_masks_shifted_by_whole_voxels_are_that_many_millimetres_apart():
    reference = np.zeros((20, 20, 20), bool)
    reference[4:5, 3:17, 3:17] = True  # a plate, so that its surface is all of it
    prediction = np.roll(reference, 3, axis=0)
    dice, hd95, surface = score_masks(prediction, reference, SPACING, tolerance=2.0)
    assert dice == 0
    assert hd95 == pytest.approx(2.4, abs=1e-5)
    assert surface == 0
    assert score_masks(prediction, reference, SPACING, tolerance=2.5)[2] == 1


def test_where_the_masks_lie_in_the_image_changes_nothing():
    prediction, reference = _pair(2)
    moved = [np.pad(mask, ((9, 2), (0, 4), (5, 5))) for mask in (prediction, reference)]
    assert score_masks(*moved, SPACING) == pytest.approx(score_masks(prediction, reference, SPACING), abs=1e-6)


def test_a_perfect_prediction_scores_best():
    _, reference = _pair(0)
    assert score_masks(reference, reference, SPACING, tolerance=0) == (1.0, 0.0, 1.0)


def test_empty_masks_follow_the_written_rules():
    empty, full = np.zeros((3, 4, 12), bool), np.ones((3, 4, 12), bool)
    diagonal = math.hypot(3, 4, 12)
    unit = (1.0, 1.0, 1.0)
    assert all(math.isnan(score) for score in score_masks(empty, empty, unit))
    assert score_masks(empty, empty, unit, empty="one") == (1.0, 0.0, 1.0)
    assert score_masks(empty, empty, unit, empty="zero") == (0.0, diagonal, 0.0)
    for rule in ("nan", "zero", "one"):
        assert score_masks(empty, full, unit, empty=rule) == (0.0, diagonal, 0.0)
        dice, hd95, surface = score_masks(full, empty, unit, empty=rule)
        assert (dice, surface) == (0.0, 0.0)
        assert math.isnan(hd95)


def test_organs_are_scored_with_their_values_in_either_map():
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[:3] = 6
    prediction = np.zeros((6, 6, 6), np.uint8)
    prediction[:3] = 1
    prediction[4] = 2
    scores = score_case(
        prediction, reference, (1, 1, 10), {"liver": (1, 6), "spleen": (2, 1)}, dataset="a", case="c", group="p"
    )
    assert [type(one) for one in scores] == [OrganScore, OrganScore]
    liver, spleen = scores
    assert (liver.organ, liver.dice, liver.group) == ("liver", 1.0, "p")
    assert liver.reference_ml == pytest.approx(1.08)
    assert liver.boundary_difference == 0.0
    assert spleen.empty
    assert not spleen.missed
    assert spleen.dice == 0.0
    assert math.isnan(spleen.boundary_difference)
    missed = score_case(reference * 0, reference, (1, 1, 1), {"liver": (1, 6)})[0]
    assert missed.missed
    assert not missed.empty


def test_an_organ_may_have_several_values_in_the_reference():
    reference = np.zeros((6, 6, 6), np.uint8)
    reference[1:3], reference[3] = 1, 2
    prediction = (np.arange(6) // 3 == 0)[:, None, None] * np.ones((6, 6, 6), np.uint8)
    merged = score_case(prediction, reference, (1, 1, 1), {"kidney": (1, (1, 2))})[0]
    single = score_case(prediction, (reference > 0) * 1, (1, 1, 1), {"kidney": (1, 1)})[0]
    assert merged == single
    assert merged.reference_ml == pytest.approx(3 * 36 / 1000)


def test_wrong_arguments_are_refused():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match="same axes"):
        score_masks(mask, mask[:2], (1, 1, 1))
    with pytest.raises(ValueError, match="tolerance"):
        score_masks(mask, mask, (1, 1, 1), tolerance=-1)
    with pytest.raises(ValueError, match="'nan', 'zero' or 'one'"):
        score_masks(mask, mask, (1, 1, 1), empty="skip")  # type: ignore[arg-type]
