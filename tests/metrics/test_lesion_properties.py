"""What holds of lesion scores whatever the masks are."""

import math
from dataclasses import asdict

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtmed.metrics import score_lesions
from mtmed.metrics.names import METRIC_BOUNDS

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 5))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape)))
SPACING = (0.8, 1.1, 3.0)
FEW = settings(max_examples=40, deadline=None)
MIRRORED = {
    "lesion_wise_true_positive_rate": lambda other: 1 - other["lesion_wise_false_positive_rate"],
    "voxel_true_positive_rate": lambda other: other["positive_predictive_value"],
    "reference_lesions": lambda other: other["predicted_lesions"],
    "reference_ml": lambda other: other["prediction_ml"],
}


def same(one, other):
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


@FEW
@given(PAIRS, st.sampled_from([6, 18, 26]))
def test_swapping_prediction_and_reference_swaps_the_rates(pair, neighbours):
    one = asdict(score_lesions(*pair, SPACING, neighbours=neighbours))
    other = asdict(score_lesions(*pair[::-1], SPACING, neighbours=neighbours))
    assert same(one["dice"], other["dice"])
    assert same(one["lesion_wise_f1"], other["lesion_wise_f1"])
    for name, expected in MIRRORED.items():
        assert same(one[name], expected(other)), name


@FEW
@given(PAIRS, st.sampled_from([6, 18, 26]))
def test_scores_stay_in_their_ranges(pair, neighbours):
    found = score_lesions(*pair, SPACING, neighbours=neighbours)
    for name, value in asdict(found).items():
        low, high = METRIC_BOUNDS.get(name, (0, math.inf))
        assert math.isnan(value) or low <= value <= high, name
    assert found.detected_lesions <= found.reference_lesions
    assert found.false_lesions <= found.predicted_lesions
    # the fewer neighbours, the more lesions
    more = score_lesions(*pair, SPACING, neighbours=6)
    assert more.reference_lesions >= found.reference_lesions


@FEW
@given(PAIRS, st.sets(st.integers(0, 2)), st.permutations(range(3)), st.integers(0, 3))
def test_turning_and_padding_both_masks_changes_nothing_but_the_distance_of_a_miss(pair, flipped, order, margin):
    before = asdict(score_lesions(*pair, SPACING))
    moved = [np.pad(np.transpose(np.flip(mask, tuple(flipped)), order), margin) for mask in pair]
    after = asdict(score_lesions(*moved, [SPACING[axis] for axis in order]))
    missed = pair[1].any() and not pair[0].any()  # then it is the image's diagonal
    assert all(same(before[name], after[name]) for name in before if not (missed and margin and name == "hd95"))


@FEW
@given(PAIRS, st.integers(0, 2), st.integers(1, 3))
def test_adding_a_false_lesion_never_raises_precision_dice_or_f1(pair, axis, size):
    # room behind both masks, two voxels away from them
    room = [(0, 2 + size if number == axis else 0) for number in range(3)]
    prediction, reference = (np.pad(mask, room) for mask in pair)
    more = prediction.copy()
    more[tuple(slice(-size, None) if number == axis else slice(0, 1) for number in range(3))] = True
    before, after = score_lesions(prediction, reference, SPACING), score_lesions(more, reference, SPACING)
    assert after.false_lesions == before.false_lesions + 1
    assert after.detected_lesions == before.detected_lesions
    assert after.lesion_wise_false_positive_rate >= np.nan_to_num(before.lesion_wise_false_positive_rate)
    assert after.positive_predictive_value <= np.nan_to_num(before.positive_predictive_value, nan=1)
    assert after.lesion_wise_f1 <= np.nan_to_num(before.lesion_wise_f1, nan=1)
    assert after.dice <= np.nan_to_num(before.dice, nan=1)
    assert same(after.lesion_wise_true_positive_rate, before.lesion_wise_true_positive_rate)


@FEW
@given(PAIRS)
def test_a_perfect_prediction_scores_best(pair):
    mask = pair[0]
    assume(mask.any())
    found = score_lesions(mask, mask, SPACING)
    assert (found.dice, found.lesion_wise_f1, found.lesion_wise_true_positive_rate) == (1, 1, 1)
    assert (found.lesion_wise_false_positive_rate, found.hd95, found.false_positive_ml) == (0, 0, 0)
