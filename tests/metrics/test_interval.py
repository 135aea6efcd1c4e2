"""The interval of a mean over patients."""

import math

import numpy as np
import pytest
from scipy import stats

from mtmed.metrics import mean_interval, resampled_interval
from mtmed.metrics.names import METRIC_BOUNDS, METRIC_NAMES


@pytest.mark.parametrize("draw", ["beta", "normal"])
def test_interval_covers_the_true_mean_as_often_as_it_says(draw):
    rng = np.random.default_rng(0)
    covered = 0
    for repeat in range(500):
        values = rng.beta(8, 2, 50) if draw == "beta" else rng.normal(0.8, 0.1, 50)
        interval = mean_interval(values.tolist(), range(50), resamples=600, seed=repeat)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.92 <= covered / 500 <= 0.98


def test_rare_failures_are_covered_where_the_range_is_known_and_not_without_it():
    rng = np.random.default_rng(1)
    covered = {None: 0, (0, 1): 0}
    for repeat in range(300):
        values = np.where(rng.random(50) < 0.03, 0, rng.beta(36, 4, 50))
        for bounds in covered:
            interval = mean_interval(values.tolist(), range(50), bounds=bounds, resamples=400, seed=repeat)
            covered[bounds] += interval.low <= 0.97 * 0.9 <= interval.high
    assert covered[0, 1] / 300 >= 0.93
    assert covered[None] / 300 <= 0.86  # 22 % of such cohorts have no failure


def test_interval_is_near_that_of_scipy():
    values = np.random.default_rng(3).beta(8, 2, 60)
    reference = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    ours = mean_interval(values.tolist(), range(60))
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(reference.low, abs=0.004)
    assert ours.high == pytest.approx(reference.high, abs=0.004)
    assert ours.high - ours.low >= 0.98 * (reference.high - reference.low)


@pytest.mark.parametrize(("hits", "patients"), [(0, 12), (1, 8), (5, 20), (19, 20), (30, 30)])
def test_of_scores_that_are_0_or_1_it_is_the_interval_of_jeffreys(hits, patients):
    values = [1.0] * hits + [0.0] * (patients - hits)
    ours = mean_interval(values, range(patients), bounds=(0, 1))
    low, high = stats.beta.ppf([0.025, 0.975], hits + 0.5, patients - hits + 0.5)
    # at 0 and 1 Jeffreys' interval is taken to end there
    assert ours.low == pytest.approx(0 if hits == 0 else low, abs=0.01)
    assert ours.high == pytest.approx(1 if hits == patients else high, abs=0.01)


def test_with_bounds_the_interval_holds_the_mean_and_stays_in_the_range():
    perfect = mean_interval([1.0] * 6, range(6), bounds=(0, 1))
    assert perfect.mean == perfect.high == 1
    assert 0.4 < perfect.low < 0.9
    generator = np.random.default_rng(4)
    for patients in (2, 3, 5, 40):
        interval = mean_interval(generator.beta(9, 1, patients).tolist(), range(patients), bounds=(0, 1))
        assert 0 <= interval.low <= interval.mean <= interval.high <= 1


def test_with_bounds_the_unit_of_the_score_does_not_matter():
    values = np.random.default_rng(5).beta(4, 2, 15)
    share = mean_interval(values.tolist(), range(15), bounds=(0, 1))
    percent = mean_interval((100 * values).tolist(), range(15), bounds=(0, 100))
    assert percent[:3] == pytest.approx([100 * end for end in share[:3]])


def test_scores_are_cut_to_no_bounds_that_they_do_not_have():
    assert all(metric in METRIC_NAMES for metric in METRIC_BOUNDS)
    assert not {"hd95", "false_positive_ml", "volume_difference", "boundary_difference"} & set(METRIC_BOUNDS)
    assert {"dice", "surface_dice", "lesion_wise_f1", "slice_dice"} <= set(METRIC_BOUNDS)


@pytest.mark.parametrize("bounds", [None, (-4, 4)])
def test_values_repeated_within_patients_do_not_make_the_interval_narrower(bounds):
    rng = np.random.default_rng(1)
    values = rng.normal(size=20)
    alone = mean_interval(values.tolist(), range(20), bounds=bounds)
    repeated = mean_interval(np.repeat(values, 8).tolist(), np.repeat(range(20), 8).tolist(), bounds=bounds)
    assert repeated.n == 160
    assert repeated.groups == 20
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=1e-9)


@pytest.mark.parametrize("bounds", [None, (-4, 4)])
def test_same_seed_gives_the_same_interval_and_another_nearly(bounds):
    values = np.random.default_rng(2).normal(size=30).tolist()
    first = mean_interval(values, range(30), bounds=bounds)
    assert first == mean_interval(values, range(30), bounds=bounds)
    assert mean_interval(values, range(30), bounds=bounds, seed=1).low == pytest.approx(first.low, abs=0.02)


@pytest.mark.parametrize("bounds", [None, (0, 1)])
def test_one_patient_has_a_mean_and_no_interval(bounds):
    interval = mean_interval([0.5, 0.7], ["a", "a"], bounds=bounds)
    assert interval.mean == pytest.approx(0.6)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_values_that_are_not_finite_are_left_out():
    assert mean_interval([1.0, math.nan, 3.0, math.inf], "abcd")[::3] == (2.0, 2)
    assert mean_interval([1.0, math.nan, 0.5, math.inf], "abcd", bounds=(0, 1))[::3] == (0.75, 2)
    nothing = mean_interval([math.nan], "a")
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_a_resampled_mean_with_both_ends_is_the_mean_interval_with_bounds():
    values = np.random.default_rng(6).beta(5, 2, 25)
    with_ends = np.append(values, [0.0, 1.0])
    ends = resampled_interval(lambda weights: weights @ with_ends / weights.sum(1), 25, seed=4, with_ends=True)
    assert ends == pytest.approx(mean_interval(values.tolist(), range(25), bounds=(0, 1), seed=4)[1:3])


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="give each value its group"):
        mean_interval([1.0], [])
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([1.0], "a", confidence=1)
    with pytest.raises(ValueError, match=r"value 1\.5 is outside the bounds \(0, 1\)"):
        mean_interval([1.5, 0.2], "ab", bounds=(0, 1))
    with pytest.raises(ValueError, match="give two finite numbers"):
        mean_interval([0.5, 0.2], "ab", bounds=(1, 0))
