"""Paired tests against brute force and SciPy, and their false-positive rate."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mtmed.studies.statistics import (
    EXACT_PATIENTS,
    holm,
    paired_test,
    patient_differences,
    sign_flip_test,
    smallest_p,
)


def _brute_force(differences):
    observed = abs(math.fsum(differences))
    flips = list(itertools.product((1, -1), repeat=len(differences)))
    reached = [
        abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True))) >= observed - 1e-12 for signs in flips
    ]
    return sum(reached) / len(flips)


@pytest.mark.parametrize("patients", [1, 2, 3, 5, 8, 11])
def test_p_is_the_share_of_all_sign_flips(patients):
    differences = np.random.default_rng(patients).normal(0.4, 1, patients)
    assert sign_flip_test(differences) == _brute_force(differences)


@pytest.mark.parametrize("patients", [4, 7, 10])
def test_p_equals_that_of_scipy(patients):
    differences = np.random.default_rng(patients).normal(0.5, 1, patients)
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip_test(differences) == pytest.approx(reference.pvalue, rel=1e-12)


def test_p_of_ranks_equals_that_of_the_signed_rank_test():
    differences = np.random.default_rng(0).normal(0.3, 1, 12)
    ranks = np.sign(differences) * stats.rankdata(np.abs(differences))
    assert sign_flip_test(ranks) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-12)


def test_ties_count_although_sums_are_rounded_differently():
    differences = [0.1, 0.2, 0.3, 0.3, -0.1]
    assert sign_flip_test(differences) == _brute_force([1, 2, 3, 3, -1])
    assert sign_flip_test([0.1] * 3 + [-0.3]) == 1.0


def test_differences_of_zero_weigh_nothing():
    assert sign_flip_test([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip_test([0.2, 0.4, -0.1, 0.0, 0.0]) == sign_flip_test([0.2, 0.4, -0.1])


def test_one_patient_gives_1_and_none_gives_nan():
    assert sign_flip_test([0.3]) == 1.0
    assert math.isnan(sign_flip_test([]))
    with pytest.raises(ValueError, match="finite"):
        sign_flip_test([0.1, math.nan])


@pytest.mark.parametrize("patients", [6, EXACT_PATIENTS, EXACT_PATIENTS + 1, 40])
def test_swapping_the_arms_changes_nothing(patients):
    differences = np.random.default_rng(1).normal(0.2, 1, patients)
    assert sign_flip_test(differences) == sign_flip_test(-differences)
    assert sign_flip_test(differences) == pytest.approx(sign_flip_test(differences[::-1]), abs=0.01)


def test_drawn_flips_agree_with_all_flips_and_repeat():
    differences = np.random.default_rng(3).normal(0.5, 1, 18)
    exact = _brute_force_fast(differences)
    drawn = sign_flip_test(differences)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 65535))
    assert sign_flip_test(differences) == drawn
    assert sign_flip_test(differences, seed=1) != drawn


def _brute_force_fast(differences):
    signs = 1 - 2 * ((np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences))) & 1)
    return float(np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12))


@pytest.mark.parametrize("patients", [*range(1, 8), EXACT_PATIENTS, 60])
def test_smallest_p_is_reached_if_all_differences_have_one_sign(patients):
    differences = np.random.default_rng(2).uniform(1, 1.001, patients)
    assert sign_flip_test(differences) == smallest_p(patients)
    if patients <= EXACT_PATIENTS:
        assert smallest_p(patients) == 2 / 2**patients
    assert math.isnan(smallest_p(0))
    assert smallest_p(EXACT_PATIENTS + 1) == smallest_p(60) == 1 / 2**16


@pytest.mark.parametrize("patients", [6, 9])
def test_false_positives_are_as_frequent_as_the_level_allows(patients):
    generator = np.random.default_rng(4)
    # skewed values: only the exchange of the arms is assumed
    pairs = generator.exponential(1, (2000, patients, 2))
    p = np.array([sign_flip_test(pair[:, 0] - pair[:, 1]) for pair in pairs])
    level = math.floor(0.05 / smallest_p(patients)) * smallest_p(patients)
    rate = np.mean(p <= 0.05)
    assert abs(rate - level) < 4 * math.sqrt(level * (1 - level) / 2000)
    found = [sign_flip_test(values) <= 0.05 for values in generator.normal(1.5, 1, (200, patients))]
    assert np.mean(found) > 0.5


def test_three_arms_alike_are_told_apart_no_more_often_than_the_level():
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(500):
        difficulty = generator.normal(0, 1, 8)  # of a patient, shared by visits and arms
        arms = [
            {(f"p{p}", v): generator.normal(difficulty[p], 0.3) for p in range(8) for v in range(1 + p % 3)}
            for _ in range(3)
        ]
        pairs = [patient_differences(arms[a], arms[b])[0] for a, b in ((1, 0), (2, 0), (2, 1))]
        wrong += min(holm([sign_flip_test(list(pair.values())) for pair in pairs])) <= 0.05
    assert wrong / 500 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


def test_holm_of_an_example_by_hand():
    # rising: 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1 lifted to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_decides_as_the_stepwise_procedure_does():
    generator = np.random.default_rng(5)
    for _ in range(50):
        p = generator.uniform(0, 0.1, 6)
        rejected = np.zeros(6, bool)
        for step, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (6 - step):
                break
            rejected[index] = True
        assert [value <= 0.05 for value in holm(p)] == rejected.tolist()


def test_holm_leaves_out_tests_that_were_not_made():
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.04)


def test_patients_are_the_unit_and_only_what_both_arms_have_counts():
    nan = math.nan
    first = {
        ("a", "visit 1"): 0.7,
        ("a", "visit 2"): 0.5,
        ("b", "visit 1"): 0.9,
        ("c", "visit 1"): nan,
        ("d", "visit 1"): 0.4,
        ("d", "visit 2"): 0.7,
    }
    second = {
        ("a", "visit 1"): 0.5,
        ("a", "visit 2"): 0.4,
        ("b", "visit 1"): nan,
        ("c", "visit 1"): 0.2,
        ("d", "visit 2"): 0.3,
        ("e", "visit 1"): 0.1,
    }
    differences, unpaired = patient_differences(first, second)
    assert differences == pytest.approx({"a": (0.2 + 0.1) / 2, "d": 0.4})
    assert unpaired == 4  # b, c, d's first visit, e
    swapped, _ = patient_differences(second, first)
    assert swapped == pytest.approx({"a": -0.15, "d": -0.4})


def test_paired_test_has_difference_interval_and_both_p():
    generator = np.random.default_rng(6)
    first = {(f"p{number}", 0): value for number, value in enumerate(generator.normal(0.7, 0.1, 8))}
    second = {key: value - 0.1 - 0.01 * index for index, (key, value) in enumerate(first.items())}
    test, swapped = paired_test(first, second), paired_test(second, first)
    assert test.difference.mean == pytest.approx(0.135)
    assert test.difference.low < 0.135 < test.difference.high
    assert (test.p, test.smallest_p, test.difference.groups) == (2 / 2**8, 2 / 2**8, 8)
    assert swapped.p == test.p
    assert swapped.difference.mean == pytest.approx(-0.135)
    nothing = paired_test(first, {})
    assert math.isnan(nothing.p)
    assert nothing.difference.groups == 0


def test_tests_that_were_planned_count_although_they_were_not_made():
    corrected = holm([0.01, math.nan, 0.04], tests=5)
    assert [corrected[0], corrected[2]] == pytest.approx([0.05, 0.16])
    assert math.isnan(corrected[1])
    with pytest.raises(ValueError, match="2 tests were made"):
        holm([0.1, 0.2], tests=1)
