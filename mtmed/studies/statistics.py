"""Paired comparison of two arms with the patient as the unit, and the correction for several of them."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtmed.metrics.interval import Interval, mean_interval
from mtmed.randomness import random_generator

__all__ = [
    "EXACT_PATIENTS",
    "SIGNIFICANCE",
    "PairedTest",
    "holm",
    "paired_test",
    "patient_differences",
    "sign_flip_test",
    "smallest_p",
]

SIGNIFICANCE = 0.05
"""Of a p-value after Holm's correction."""

EXACT_PATIENTS = 16
"""Up to so many patients all sign flips are tried."""

_DRAWN = 2**16 - 1  # sign flips beyond that; with the observed one there are 2**16
_CHUNK = 4096  # sign flips at once
_ROUNDING = 1e-9  # relative; equal sums that were added in another order differ by less


class PairedTest(NamedTuple):
    """Comparison of two arms on the same patients.

    Attributes:
        difference: mean difference over patients with its 95 % bootstrap interval.
        p: two-sided p-value of `sign_flip_test`, NaN without a patient.
        smallest_p: see `smallest_p`.
        unpaired: values of one arm that were left out because the other arm's is undefined or not there.
    """

    difference: Interval
    p: float
    smallest_p: float
    unpaired: int


def holm(p_values: Sequence[float], *, tests: int | None = None) -> list[float]:
    r"""p-values corrected after Holm 1979 for the number of tests made.

    With the p-values in rising order and m tests

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) p_{(j)}).

    NaN stands for a test that was not made; it stays NaN.

    Args:
        p_values: of all tests of one family.
        tests: m, if more tests belong to the family than were made; None: those that were made.

    Returns:
        The corrected values in the given order.

    Raises:
        ValueError: if `tests` is less than the number of tests made.
    """
    given = np.asarray(p_values, np.float64)
    corrected = np.full(given.shape, math.nan)
    made = np.flatnonzero(np.isfinite(given))
    rising = made[np.argsort(given[made], kind="stable")]
    count = len(rising) if tests is None else tests
    if count < len(rising):
        raise ValueError(f"{len(rising)} tests were made, tests is {tests}.")
    factors = count - np.arange(len(rising))
    corrected[rising] = np.minimum(np.maximum.accumulate(factors * given[rising]), 1.0)
    return [float(value) for value in corrected]


def smallest_p(patients: int) -> float:
    """Smallest two-sided p-value that `sign_flip_test` can give for so many patients.

    It is ``2 / 2**patients``, reached if all differences have one sign and none is 0; where sign flips are drawn, one
    in 65 536, the observed one. NaN without a patient.
    """
    if patients == 0:
        return math.nan
    return 2.0 / 2**patients if patients <= EXACT_PATIENTS else 1.0 / (_DRAWN + 1)


def sign_flip_test(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of the paired permutation test of a mean difference of 0.

    If the two arms are alike, each patient's difference has either sign with equal chance. The p-value is the share of
    sign flips whose sum is at least as far from 0 as the observed one. All flips are tried up to `EXACT_PATIENTS`
    patients; beyond that 65 535 are drawn and the observed one is counted with them, which keeps the level of the
    test (Phipson and Smyth 2010). Swapping the arms changes nothing. Differences of 0 stay in and weigh nothing.

    Args:
        differences: one finite value per patient.
        seed: seed of the drawn flips.

    Raises:
        ValueError: if a difference is not finite.
    """
    values = np.asarray(differences, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("Differences must be finite; leave out patients that one arm lacks.")
    if not len(values):
        return math.nan
    least = abs(math.fsum(values)) - _ROUNDING * float(np.abs(values).sum())
    if len(values) <= EXACT_PATIENTS:
        return float(np.mean(np.abs(_all_sums(values)) >= least))
    generator = random_generator(seed, 0, 0, "sign flip")
    reached = 1
    for start in range(0, _DRAWN, _CHUNK):
        signs = generator.integers(0, 2, (min(_CHUNK, _DRAWN - start), len(values)), np.int8) * 2 - 1
        reached += int(np.count_nonzero(np.abs(signs @ values) >= least))
    return reached / (_DRAWN + 1)


def _all_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums under all flips of all signs but the first; the other half are their negatives."""
    sums = values[:1]
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def patient_differences(
    first: Mapping[tuple[str, Hashable], float], second: Mapping[tuple[str, Hashable], float]
) -> tuple[dict[str, float], int]:
    """Mean difference of each patient that both arms have.

    A patient's difference is the mean over all measurements (fold, seed, case and organ) that both arms have a value
    for, so that a seed that one arm lacks does not tell the arms apart.

    Args:
        first: value of one arm by (patient, measurement); NaN where undefined.
        second: values of the other arm.

    Returns:
        Difference first − second of each patient in sorted order, and the number of measurements that only one of the
        arms has a value for.
    """
    defined = [{key: value for key, value in arm.items() if math.isfinite(value)} for arm in (first, second)]
    of_patient: dict[str, list[float]] = {}
    for key in defined[0].keys() & defined[1].keys():
        of_patient.setdefault(key[0], []).append(defined[0][key] - defined[1][key])
    differences = {patient: math.fsum(of_patient[patient]) / len(of_patient[patient]) for patient in sorted(of_patient)}
    return differences, len(defined[0].keys() ^ defined[1].keys())


def paired_test(
    first: Mapping[tuple[str, Hashable], float],
    second: Mapping[tuple[str, Hashable], float],
    *,
    seed: int = 0,
) -> PairedTest:
    """Compare two arms on the patients that both have; the arguments are those of `patient_differences`."""
    differences, unpaired = patient_differences(first, second)
    values = list(differences.values())
    return PairedTest(
        difference=mean_interval(values, list(differences), seed=seed),
        p=sign_flip_test(values, seed=seed),
        smallest_p=smallest_p(len(values)),
        unpaired=unpaired,
    )
