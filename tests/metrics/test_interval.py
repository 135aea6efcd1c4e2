"""The bootstrap interval of a mean over patients."""

import math

import numpy as np
import pytest
from scipy import stats

from mtmed.metrics import mean_interval


@pytest.mark.parametrize("draw", ["beta", "normal"])
def test_interval_covers_the_true_mean_as_often_as_it_says(draw):
    rng = np.random.default_rng(0)
    covered = 0
    for repeat in range(500):
        values = rng.beta(8, 2, 50) if draw == "beta" else rng.normal(0.8, 0.1, 50)
        interval = mean_interval(values.tolist(), range(50), resamples=600, seed=repeat)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.92 <= covered / 500 <= 0.98


def test_interval_is_near_that_of_scipy():
    values = np.random.default_rng(3).beta(8, 2, 60)
    reference = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    ours = mean_interval(values.tolist(), range(60))
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(reference.low, abs=0.004)
    assert ours.high == pytest.approx(reference.high, abs=0.004)
    assert ours.high - ours.low >= 0.98 * (reference.high - reference.low)


def test_values_repeated_within_patients_do_not_make_the_interval_narrower():
    rng = np.random.default_rng(1)
    values = rng.normal(size=20)
    alone = mean_interval(values.tolist(), range(20))
    repeated = mean_interval(np.repeat(values, 8).tolist(), np.repeat(range(20), 8).tolist())
    assert repeated.n == 160
    assert repeated.groups == 20
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=1e-9)


def test_same_seed_gives_the_same_interval_and_another_nearly():
    values = np.random.default_rng(2).normal(size=30).tolist()
    assert mean_interval(values, range(30)) == mean_interval(values, range(30))
    assert mean_interval(values, range(30), seed=1).low == pytest.approx(mean_interval(values, range(30)).low, abs=0.02)


def test_one_patient_has_a_mean_and_no_interval():
    interval = mean_interval([0.5, 0.7], ["a", "a"])
    assert interval.mean == pytest.approx(0.6)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_values_that_are_not_finite_are_left_out():
    assert mean_interval([1.0, math.nan, 3.0, math.inf], "abcd")[::3] == (2.0, 2)
    nothing = mean_interval([math.nan], "a")
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="give each value its group"):
        mean_interval([1.0], [])
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([1.0], "a", confidence=1)
