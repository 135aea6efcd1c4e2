"""The area under the ROC curve over images against a loop over all pairs, and its interval over patients."""

import importlib
import math

import numpy as np
import pytest
from scipy import stats

from mtmed.metrics import image_auc


def _of_pairs(scores, positive):
    """Share of pairs of a positive and a negative image in the right order; ties are half right."""
    above = [score for score, own in zip(scores, positive, strict=True) if own]
    below = [score for score, own in zip(scores, positive, strict=True) if not own]
    won = [float(a > b) + 0.5 * float(a == b) for a in above for b in below]
    return math.fsum(won) / len(won)


def _images(seed=0, patients=20, *, ties=False):
    """Scores that know a little of the organ, one to four images of each patient."""
    generator = np.random.default_rng(seed)
    owners = np.repeat(np.arange(patients), generator.integers(1, 5, patients))
    positive = generator.random(len(owners)) < 0.4
    scores = generator.normal(size=len(owners)) + positive
    return (scores.round() if ties else scores).tolist(), positive.tolist(), owners.tolist()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_value_is_the_share_of_pairs_in_the_right_order(seed, ties):
    scores, positive, owners = _images(seed, ties=ties)
    found = image_auc(scores, positive, owners)
    assert found.value == pytest.approx(_of_pairs(scores, positive), abs=1e-12)
    assert (found.positives, found.negatives) == (sum(positive), len(positive) - sum(positive))
    assert found.patients == 20
    assert found.low < found.value < found.high
    above = [score for score, own in zip(scores, positive, strict=True) if own]
    below = [score for score, own in zip(scores, positive, strict=True) if not own]
    of_scipy = stats.mannwhitneyu(above, below).statistic / len(above) / len(below)
    assert found.value == pytest.approx(of_scipy, abs=1e-12)


def test_perfect_reversed_and_constant_scores_have_the_known_areas():
    positive, owners = [False, False, True, True], range(4)
    assert image_auc([0.1, 0.2, 0.3, 0.4], positive, owners)[:3] == (1, 1, 1)
    assert image_auc([0.4, 0.3, 0.2, 0.1], positive, owners)[:3] == (0, 0, 0)
    assert image_auc([0.7] * 4, positive, owners)[:3] == (0.5, 0.5, 0.5)


def test_only_the_order_of_the_scores_counts():
    scores, positive, owners = _images(ties=True)
    grown = image_auc(np.exp(scores).tolist(), positive, owners)
    assert grown == image_auc(scores, positive, owners)
    turned = image_auc(scores[::-1], positive[::-1], owners[::-1])
    assert turned.value == pytest.approx(grown.value, abs=1e-12)
    other_side = image_auc([-score for score in scores], [not own for own in positive], owners)
    assert other_side.value == pytest.approx(grown.value, abs=1e-12)


@pytest.mark.parametrize("present", [True, False])
def test_one_kind_of_images_alone_has_no_area(present):
    found = image_auc([0.2, 0.7, 0.9], [present] * 3, "abc")
    assert all(math.isnan(value) for value in found[:3])
    assert found[3:] == ((3, 0, 3) if present else (0, 3, 3))
    nothing = image_auc([math.nan], [present], "a")
    assert math.isnan(nothing.value)
    assert nothing[3:] == (0, 0, 0)


def test_images_without_a_score_are_left_out():
    scores, positive, owners = _images()
    found = image_auc([*scores, math.nan], [*positive, True], [*owners, "another"])
    assert found == image_auc(scores, positive, owners)


def test_one_patient_has_an_area_and_no_interval():
    found = image_auc([0.2, 0.7, 0.9], [False, True, False], "aaa")
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_interval_is_near_that_of_drawing_patients_one_by_one():
    scores, positive, owners = (np.array(part) for part in _images(3, 30, ties=True))
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(owners == patient) for patient in range(30)]
    draws = (np.concatenate([members[one] for one in generator.integers(0, 30, 30)]) for _ in range(1000))
    values = [_of_pairs(scores[drawn], positive[drawn]) for drawn in draws]
    width = math.sqrt(30 / 29) * stats.t.ppf(0.975, 29)
    low, high = np.quantile(values, [stats.norm.cdf(-width), stats.norm.cdf(width)])
    found = image_auc(scores.tolist(), positive.tolist(), owners.tolist())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_repeating_the_images_of_each_patient_makes_the_interval_no_narrower():
    scores, positive, owners = _images()
    alone, repeated = image_auc(scores, positive, owners), image_auc(scores * 5, positive * 5, owners * 5)
    assert repeated[:3] == pytest.approx(alone[:3], abs=1e-12)


def test_resamples_in_parts_give_what_they_give_at_once(monkeypatch):
    whole = image_auc(*_images(), seed=4)
    monkeypatch.setattr(importlib.import_module("mtmed.metrics.image_auc"), "_AT_ONCE", 5000)
    assert image_auc(*_images(), seed=4) == pytest.approx(whole, abs=1e-12)


def test_one_entry_per_image_is_asked_for():
    with pytest.raises(ValueError, match="2 scores of 1 images of 2 patients"):
        image_auc([0.1, 0.2], [True], "ab")
