"""Scores of slices on masks that are counted by hand, and against MONAI."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric

from mtmed.metrics import SLICE_RULES, normalised_hausdorff, score_slices, slice_dice
from mtmed.organ_masks import organ_values, pack_masks

ORGANS = ("large_bowel", "stomach")
VALUES = {name: (values, values) for name, values in organ_values(ORGANS).items()}


def _scan(*slices):
    """Slices of one row of pixels each, from their texts."""
    return np.array([[[int(pixel) for pixel in row]] for row in slices], np.uint8)


# values: 1 large bowel, 2 stomach, 3 both
REFERENCE = _scan("00000000", "11110000", "01133220", "00022220", "00000000")
PREDICTION = _scan("00000011", "11000000", "01113322", "00000000", "00000000")
#                   extra 2     half missed  see below   missed      nothing


def _by_organ(scores):
    return {score.organ: score for score in scores}


def test_scores_of_a_scan_are_those_counted_by_hand():
    scores, slices = score_slices(PREDICTION, REFERENCE, VALUES, dataset="Toy", case="c1", group="p1")
    bowel, stomach = (_by_organ(scores)[organ] for organ in ORGANS)
    # large bowel: slice 2: 2 * 2 / (4 + 2); slice 3: reference at 1 2 3 4, prediction at 1 2 3 4 5: 2 * 4 / (4 + 5)
    assert bowel.slice_dice == pytest.approx((2 / 3 + 8 / 9) / 2)
    assert bowel.dice == pytest.approx(2 * 6 / (8 + 9))
    assert bowel.competition_dice == pytest.approx((0 + 2 / 3 + 8 / 9) / 3)
    assert (bowel.false_positive_voxels, bowel.false_negative_voxels) == (3, 2)
    assert bowel.false_positive_to_false_negative == 1.5
    assert bowel.false_positive_share == 3 / 5
    assert (bowel.slices, bowel.empty_slices, bowel.false_positive_slices, bowel.missed_slices) == (5, 3, 1, 0)
    # the false positive at column 7 of slice 1 is 1 slice and 4 columns from column 3 of slice 2
    assert bowel.hausdorff == pytest.approx(math.sqrt((1 / 5) ** 2 + (4 / 8) ** 2) / math.sqrt(3))
    assert bowel.competition_score == pytest.approx(0.4 * bowel.competition_dice + 0.6 * (1 - bowel.hausdorff))
    # stomach: slice 3: reference at 3 4 5 6, prediction at 4 5 6 7: 2 * 3 / 8; slice 4 missed
    assert stomach.slice_dice == pytest.approx((0.75 + 0) / 2)
    assert stomach.dice == pytest.approx(2 * 3 / (8 + 4))
    assert (stomach.false_positive_voxels, stomach.false_negative_voxels) == (1, 5)
    assert (stomach.empty_slices, stomach.false_positive_slices, stomach.missed_slices) == (3, 0, 1)
    assert not stomach.empty
    assert [(one.organ, one.slice) for one in slices] == [(organ, number) for organ in ORGANS for number in range(1, 6)]
    assert [one.dice for one in slices[1:3]] == pytest.approx([2 / 3, 8 / 9])
    assert (slices[0].prediction_voxels, slices[0].reference_voxels, slices[0].competition_dice) == (2, 0, 0)
    assert {(one.dataset, one.case, one.group) for one in (*scores, *slices)} == {("Toy", "c1", "p1")}


@pytest.mark.parametrize(
    ("rule", "bowel", "stomach"),
    [
        ("nan", [math.nan, 2 / 3, 8 / 9, math.nan, math.nan], [math.nan, math.nan, 0.75, 0, math.nan]),
        ("zero", [0, 2 / 3, 8 / 9, 0, 0], [0, 0, 0.75, 0, 0]),
        ("one", [0, 2 / 3, 8 / 9, 1, 1], [1, 1, 0.75, 0, 1]),
    ],
)
def test_slices_without_the_organ_follow_the_rule(rule, bowel, stomach):
    scores, slices = score_slices(PREDICTION, REFERENCE, VALUES, empty=rule)
    for organ, expected in zip(ORGANS, (bowel, stomach), strict=True):
        np.testing.assert_allclose([one.dice for one in slices if one.organ == organ], expected)
        assert _by_organ(scores)[organ].slice_dice == pytest.approx(np.nanmean(expected))
        found = slice_dice(
            PREDICTION >> ORGANS.index(organ) & 1 > 0, REFERENCE >> ORGANS.index(organ) & 1 > 0, empty=rule
        )
        np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("rule", ["nan", "zero", "one"])
def test_columns_that_name_their_protocol_do_not_follow_the_rule(rule):
    bowel, stomach = (_by_organ(score_slices(PREDICTION, REFERENCE, VALUES, empty=rule)[0])[organ] for organ in ORGANS)
    assert (bowel.positive_slice_dice, stomach.positive_slice_dice) == pytest.approx(((2 / 3 + 8 / 9) / 2, 0.75 / 2))
    # of the large bowel one empty slice has a false positive, of the stomach none
    assert bowel.slice_dice_empty_one == pytest.approx((0 + 2 / 3 + 8 / 9 + 1 + 1) / 5)
    assert stomach.slice_dice_empty_one == pytest.approx((1 + 1 + 0.75 + 0 + 1) / 5)
    nothing = np.zeros_like(REFERENCE)
    for prediction, expected in ((nothing, 1), (REFERENCE | 3, 0)):
        for score in score_slices(prediction, nothing, VALUES, empty=rule)[0]:
            assert math.isnan(score.positive_slice_dice)
            assert score.slice_dice_empty_one == expected


def test_highest_probabilities_stand_beside_their_slices():
    highest = {"stomach": [0.1, 0.2, 0.9, 0.4, 0.0]}
    slices = score_slices(PREDICTION, REFERENCE, VALUES, highest=highest)[1]
    assert [one.highest_probability for one in slices if one.organ == "stomach"] == highest["stomach"]
    # of an organ without probabilities they are not known
    assert all(math.isnan(one.highest_probability) for one in slices if one.organ == "large_bowel")


@pytest.mark.parametrize(
    ("rule", "dice", "hausdorff", "score"), [("nan", math.nan, math.nan, math.nan), ("zero", 0, 1, 0), ("one", 1, 0, 1)]
)
def test_scans_without_the_organ_follow_the_rule(rule, dice, hausdorff, score):
    nothing = np.zeros_like(REFERENCE)
    for found in score_slices(nothing, nothing, VALUES, empty=rule)[0]:
        scores = found.slice_dice, found.dice, found.hausdorff, found.competition_dice, found.competition_score
        assert scores == pytest.approx((dice, dice, hausdorff, dice, score), nan_ok=True)
        assert found.empty
    for found in score_slices(PREDICTION, nothing, VALUES, empty=rule)[0]:
        assert found.dice == 0
        assert math.isnan(found.competition_score)
        assert math.isnan(found.false_positive_to_false_negative)
        assert found.false_positive_share == 1
        assert found.false_positive_voxels > 0
    for found in score_slices(nothing, REFERENCE, VALUES, empty=rule)[0]:
        assert (found.dice, found.hausdorff, found.competition_score) == pytest.approx(
            (0, 1, 0 if rule != "one" else 0.4 * 3 / 5)
        )


def test_slices_with_the_organ_score_as_with_monai():
    generator = np.random.default_rng(0)
    masks = generator.random((2, 3, 6, 12, 9)) < 0.4
    masks[1, 1, 2] = False
    packed = [pack_masks(mask, axis=0)[0] for mask in masks]
    values = {name: (own, own) for name, own in organ_values(("a", "b", "c")).items()}
    slices = score_slices(*packed, values)[1]
    # MONAI takes slices as a batch: D K H W
    prediction, reference = (torch.from_numpy(np.moveaxis(mask, 0, 1)) for mask in masks)
    expected = DiceMetric(include_background=True, reduction="none")(prediction, reference)
    found = np.array([one.dice for one in slices]).reshape(3, 6).T
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    assert np.isnan(found).sum() == 1


def test_order_of_rows_columns_and_slices_does_not_matter():
    plain = score_slices(PREDICTION, REFERENCE, VALUES)[0]
    for turned in (lambda scan: scan[::-1], lambda scan: scan[..., ::-1], lambda scan: scan.swapaxes(1, 2)):
        for one, other in zip(plain, score_slices(turned(PREDICTION), turned(REFERENCE), VALUES)[0], strict=True):
            assert one.competition_score == pytest.approx(other.competition_score)
            assert (one.slice_dice, one.dice) == (other.slice_dice, other.dice)


def test_values_of_both_sides_are_looked_up_by_organ():
    other = np.where(REFERENCE & 2, 7, 0)
    (score,), _ = score_slices(REFERENCE, other, {"stomach": ((2, 3), 7)})
    assert (score.dice, score.hausdorff) == (1, 0)


def test_a_single_slice_is_a_scan():
    (score, _), slices = score_slices(PREDICTION[1:2], REFERENCE[1:2], VALUES)
    assert score.slice_dice == score.dice == pytest.approx(2 / 3)
    assert score.hausdorff == pytest.approx(normalised_hausdorff(PREDICTION[1:2] == 1, REFERENCE[1:2] == 1))
    assert len(slices) == 2


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="give both as D H W"):
        score_slices(PREDICTION[0], REFERENCE[0], VALUES)
    with pytest.raises(ValueError, match="'nan', 'zero' or 'one'"):
        score_slices(PREDICTION, REFERENCE, VALUES, empty="skip")  # type: ignore[arg-type]


def test_the_rules_name_every_score():
    assert {"slice_dice", "dice", "hausdorff", "competition_score", "false_positive_to_false_negative"} <= set(
        SLICE_RULES
    )
