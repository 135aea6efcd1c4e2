"""Lesion scores against flood fill in plain Python, SimpleITK and the package lesion-metrics."""

import math
from dataclasses import asdict
from itertools import product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from mtmed.metrics import score_lesions, score_masks, volume_correlation

SPACING = (1.0, 0.9, 3.0)
RATES = ("lesion_wise_f1", "lesion_wise_true_positive_rate", "lesion_wise_false_positive_rate")


def _pair(seed, shape=(22, 20, 14)):
    """Two masks of many small lesions, of which some are in both."""
    rng = np.random.default_rng(seed)
    blobs = [ndimage.gaussian_filter(rng.normal(size=shape), 1.0) for _ in range(2)]
    mixed = 0.8 * blobs[0] + 0.5 * blobs[1]
    return mixed > np.quantile(mixed, 0.93), blobs[0] > np.quantile(blobs[0], 0.95)


def _lesions(mask, farthest):
    """Components as sets of voxels, by flood fill over neighbours of which at most `farthest` indices differ."""
    left, found = set(map(tuple, np.argwhere(mask))), []
    steps = [step for step in product((-1, 0, 1), repeat=mask.ndim) if 0 < sum(map(abs, step)) <= farthest]
    while left:
        front = [left.pop()]
        lesion = set(front)
        while front:
            voxel = front.pop()
            near = {tuple(int(i + s) for i, s in zip(voxel, step, strict=True)) for step in steps} & left
            left -= near
            lesion |= near
            front += near
        found.append(lesion)
    return found


@pytest.mark.parametrize("neighbours", [6, 18, 26])
@pytest.mark.parametrize("seed", range(3))
def test_lesions_equal_a_flood_fill_in_plain_python(seed, neighbours):
    prediction, reference = _pair(seed)
    farthest = {6: 1, 18: 2, 26: 3}[neighbours]
    predicted, real = _lesions(prediction, farthest), _lesions(reference, farthest)
    all_predicted, all_real = set().union(*predicted), set().union(*real)
    detected, false = sum(bool(one & all_predicted) for one in real), sum(not one & all_real for one in predicted)
    score = score_lesions(prediction, reference, SPACING, neighbours=neighbours)
    counts = (score.reference_lesions, score.detected_lesions, score.predicted_lesions, score.false_lesions)
    assert counts == (len(real), detected, len(predicted), false)
    assert 0 < detected < len(real)
    assert 0 < false < len(predicted)
    sensitivity, precision = detected / len(real), 1 - false / len(predicted)
    assert score.lesion_wise_true_positive_rate == pytest.approx(sensitivity, abs=1e-12)
    assert score.lesion_wise_false_positive_rate == pytest.approx(1 - precision, abs=1e-12)
    assert score.lesion_wise_f1 == pytest.approx(2 / (1 / sensitivity + 1 / precision), abs=1e-12)


def test_voxel_scores_equal_their_formulas():
    prediction, reference = _pair(4)
    score = score_lesions(prediction, reference, SPACING)
    p, r = prediction.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    assert score.dice == pytest.approx(2 * p @ r / (p.sum() + r.sum()), abs=1e-12)
    assert score.voxel_true_positive_rate == pytest.approx(p @ r / r.sum(), abs=1e-12)
    assert score.positive_predictive_value == pytest.approx(p @ r / p.sum(), abs=1e-12)
    assert score.false_positive_ml == pytest.approx(p @ (1 - r) * 2.7 / 1000, abs=1e-12)
    assert score.volume_difference == pytest.approx(abs(p.sum() - r.sum()) / r.sum(), abs=1e-12)
    assert (score.reference_ml, score.prediction_ml) == pytest.approx((r.sum() * 0.0027, p.sum() * 0.0027))
    assert score.hd95 == score_masks(prediction, reference, SPACING)[1]


def test_voxel_scores_and_lesion_counts_equal_simpleitks():
    prediction, reference = _pair(8)
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)]
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(images[1], images[0])  # source, target: what is in the target only is a false positive
    score = score_lesions(prediction, reference, SPACING)
    assert score.dice == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-12)
    counts = []
    for image in images:
        components = SimpleITK.ConnectedComponentImageFilter()
        components.FullyConnectedOn()
        components.Execute(image)
        counts.append(components.GetObjectCount())
    assert [score.predicted_lesions, score.reference_lesions] == counts


def _peer_scores(peer, prediction, reference):
    return {
        "dice": peer.dice(prediction, reference),
        "positive_predictive_value": peer.ppv(prediction, reference),
        "voxel_true_positive_rate": peer.tpr(prediction, reference),
        "lesion_wise_true_positive_rate": peer.ltpr(prediction, reference),
        "lesion_wise_false_positive_rate": peer.lfdr(prediction, reference),
        "volume_difference": peer.avd(prediction, reference),
    }


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_those_of_lesion_metrics(seed):
    peer = pytest.importorskip("lesion_metrics.metrics")
    prediction, reference = _pair(20 + seed)
    score = asdict(score_lesions(prediction, reference, SPACING))
    for name, theirs in _peer_scores(peer, prediction, reference).items():
        assert score[name] == pytest.approx(theirs, abs=1e-12), name


def test_undefined_scores_are_those_of_lesion_metrics():
    peer = pytest.importorskip("lesion_metrics.metrics")
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    for prediction, reference in ((empty, empty), (empty, full), (full, empty)):
        score = asdict(score_lesions(prediction, reference, SPACING))
        for name, theirs in _peer_scores(peer, prediction, reference).items():
            assert score[name] == pytest.approx(theirs, nan_ok=True), name


@pytest.mark.real
def test_scores_of_real_lesions_equal_those_of_lesion_metrics(real_data):
    peer = pytest.importorskip("lesion_metrics.metrics")
    masks = sorted((real_data / "ms_open_mni_masks").glob("*.nii.gz"))
    reference = nib.load(masks[0]).get_fdata()[60:130, 60:150, 70:130] > 0
    prediction = np.roll(reference, 2, axis=0) & (np.random.default_rng(0).random(reference.shape) < 0.4)
    score = asdict(score_lesions(prediction, reference, (1.0, 1.0, 1.0)))
    assert score["reference_lesions"] > 5
    for name, theirs in _peer_scores(peer, prediction, reference).items():
        assert score[name] == pytest.approx(theirs, abs=1e-12), name


def test_one_voxel_in_common_detects_a_lesion_and_makes_the_other_real():
    prediction, reference = np.zeros((12, 8, 8), bool), np.zeros((12, 8, 8), bool)
    reference[1:5, 1:5, 1:5] = True
    prediction[4:9, 4:7, 4:7] = True
    score = score_lesions(prediction, reference, SPACING)
    assert (score.detected_lesions, score.false_lesions, score.lesion_wise_f1) == (1, 0, 1.0)
    prediction[4, 4, 4] = False
    score = score_lesions(prediction, reference, SPACING)
    assert (score.detected_lesions, score.false_lesions, score.lesion_wise_f1) == (0, 1, 0.0)


def test_voxels_that_touch_at_a_corner_are_one_lesion_of_26_neighbours_only():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert [score_lesions(mask, mask, SPACING, neighbours=n).reference_lesions for n in (26, 18, 6)] == [1, 2, 2]
    mask[0, 1, 1] = True  # touches the first along an edge, the second with a face
    assert [score_lesions(mask, mask, SPACING, neighbours=n).reference_lesions for n in (26, 18, 6)] == [1, 1, 2]


def test_pixels_that_touch_at_a_corner_are_one_lesion_in_2d():
    mask = np.eye(5, dtype=bool)
    assert [score_lesions(mask, mask, (1, 1), neighbours=n).reference_lesions for n in (26, 18, 6)] == [1, 1, 5]


def test_empty_masks_follow_the_written_rules():
    empty, lesions = np.zeros((3, 4, 12), bool), np.zeros((3, 4, 12), bool)
    lesions[0, 0, ::2] = True
    nothing = score_lesions(empty, empty, (1, 1, 1))
    undefined = {name for name, value in asdict(nothing).items() if math.isnan(value)}
    ratios = {"dice", *RATES, "voxel_true_positive_rate", "positive_predictive_value", "hd95", "volume_difference"}
    assert undefined == ratios
    assert sum(value for name, value in asdict(nothing).items() if name not in undefined) == 0
    missed = score_lesions(empty, lesions, (1, 1, 1))
    undefined = {name for name, value in asdict(missed).items() if math.isnan(value)}
    assert undefined == {"positive_predictive_value", "lesion_wise_false_positive_rate"}
    assert (missed.dice, missed.lesion_wise_f1, missed.lesion_wise_true_positive_rate) == (0, 0, 0)
    assert (missed.hd95, missed.volume_difference, missed.reference_lesions) == (13, 1, 6)
    invented = score_lesions(lesions, empty, (1, 1, 1))
    undefined = {name for name, value in asdict(invented).items() if math.isnan(value)}
    assert undefined == ratios - {"dice", "lesion_wise_f1", "lesion_wise_false_positive_rate"} - {
        "positive_predictive_value"
    }
    assert (invented.dice, invented.lesion_wise_f1, invented.positive_predictive_value) == (0, 0, 0)
    assert (invented.lesion_wise_false_positive_rate, invented.false_lesions) == (1, 6)
    assert invented.false_positive_ml == pytest.approx(0.006)


def test_turning_and_padding_both_masks_changes_nothing():
    prediction, reference = _pair(3)
    plain = score_lesions(prediction, reference, SPACING)
    turned = [np.pad(mask, 2)[::-1].transpose(2, 0, 1) for mask in (prediction, reference)]
    assert asdict(score_lesions(*turned, (3.0, 1.0, 0.9))) == pytest.approx(asdict(plain))


def test_swapping_the_masks_swaps_the_rates_and_keeps_dice_and_f1():
    prediction, reference = _pair(6)
    forth, back = score_lesions(prediction, reference, SPACING), score_lesions(reference, prediction, SPACING)
    assert (forth.dice, forth.lesion_wise_f1) == pytest.approx((back.dice, back.lesion_wise_f1))
    assert forth.positive_predictive_value == back.voxel_true_positive_rate
    assert forth.lesion_wise_true_positive_rate == pytest.approx(1 - back.lesion_wise_false_positive_rate)


def test_volume_correlation_equals_numpys_and_lesion_metrics():
    rng = np.random.default_rng(0)
    reference = rng.gamma(2, 8, 30)
    predicted = reference * rng.uniform(0.5, 1.2, 30)
    found = volume_correlation(predicted.tolist(), reference.tolist())
    assert found == pytest.approx(np.corrcoef(predicted, reference)[0, 1], abs=1e-12)
    assert found == pytest.approx(volume_correlation((3 * predicted + 1).tolist(), reference.tolist()), abs=1e-12)
    peer = pytest.importorskip("lesion_metrics.metrics")
    assert found == pytest.approx(peer.corr(predicted, reference), abs=1e-12)


def test_volume_correlation_is_nan_where_it_is_undefined():
    assert math.isnan(volume_correlation([], []))
    assert math.isnan(volume_correlation([1.0], [2.0]))
    assert math.isnan(volume_correlation([1.0, 1.0, 1.0], [2.0, 3.0, 4.0]))
    assert math.isnan(volume_correlation([2.0, 3.0, 4.0], [0.0, 0.0, 0.0]))
    assert volume_correlation([1.0, 2.0], [4.0, 3.0]) == pytest.approx(-1)


def test_wrong_arguments_are_refused():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match="same axes"):
        score_lesions(mask, mask[:2], SPACING)
    with pytest.raises(ValueError, match="choose 6, 18 or 26"):
        score_lesions(mask, mask, SPACING, neighbours=8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one pair per case"):
        volume_correlation([1.0], [1.0, 2.0])
