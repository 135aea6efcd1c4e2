"""How sure a mean is: bootstrap interval with the patient as the unit."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mtmed.randomness import random_generator

__all__ = ["Interval", "mean_interval", "resampled_interval"]


class Interval(NamedTuple):
    """A mean with its interval; NaN where there is none.

    Attributes:
        mean: mean of all finite values.
        low: lower end.
        high: upper end.
        n: number of finite values.
        groups: number of patients that they come from.
    """

    mean: float
    low: float
    high: float
    n: int
    groups: int


def mean_interval(
    values: Sequence[float],
    groups: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Mean and expanded percentile bootstrap interval; whole groups (patients) are drawn with replacement.

    Values of one patient resemble each other, so drawing single values would give intervals that are too narrow. Each
    resample draws as many patients as there are and takes the mean over all of their values. The plain percentile
    interval is too narrow for few patients; with G of them its tails are therefore set to
    ``normal_cdf(-sqrt(G / (G - 1)) * t_quantile(G - 1))``, after Hesterberg 2015, "What teachers should know about the
    bootstrap", section 5. With a single patient there is no interval.

    Args:
        values: scores; those that are not finite are left out.
        groups: patient of each value.
        confidence: coverage aimed at, in (0, 1).
        resamples: number of bootstrap samples.
        seed: seed of the resampling.

    Raises:
        ValueError: if lengths differ or `confidence` is not in (0, 1).
    """
    if len(values) != len(groups):
        raise ValueError(f"There are {len(values)} values and {len(groups)} groups; give each value its group.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a share in (0, 1).")
    members: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        if math.isfinite(value):
            members.setdefault(group, []).append(float(value))
    sums = np.array([math.fsum(own) for own in members.values()])
    counts = np.array([len(own) for own in members.values()], dtype=np.float64)
    if not len(sums):
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    mean, n = float(sums.sum() / counts.sum()), int(counts.sum())
    if len(sums) == 1:
        return Interval(mean, math.nan, math.nan, n, 1)
    generator = random_generator(seed, 0, 0, "bootstrap")
    drawn = generator.integers(0, len(sums), (resamples, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return Interval(mean, *_expanded_percentiles(means, len(sums), confidence), n, len(sums))


def resampled_interval(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    patients: int,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> tuple[float, float]:
    """Expanded percentile bootstrap interval of a statistic that is no mean over patients, see `mean_interval`.

    Args:
        statistic: takes how often each patient is drawn, resamples x patients, and gives a value for each resample; NaN
            where it has none, which is left out.
        patients: number of patients.
        confidence: coverage aimed at, in (0, 1).
        resamples: number of bootstrap samples.
        seed: seed of the resampling.

    Returns:
        Lower and upper end.
    """
    generator = random_generator(seed, 0, 0, "bootstrap")
    values = statistic(generator.multinomial(patients, np.full(patients, 1 / patients), resamples).astype(np.float64))
    return _expanded_percentiles(values[np.isfinite(values)], patients, confidence)


def _expanded_percentiles(values: NDArray[np.float64], patients: int, confidence: float) -> tuple[float, float]:
    width = math.sqrt(patients / (patients - 1)) * stats.t.ppf((1 + confidence) / 2, patients - 1)
    tail = float(stats.norm.cdf(-width))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
