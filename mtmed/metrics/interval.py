"""How sure a mean is: bootstrap interval with the patient as the unit."""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from mtmed.randomness import random_generator

__all__ = ["Interval", "mean_interval"]


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
    width = math.sqrt(len(sums) / (len(sums) - 1)) * stats.t.ppf((1 + confidence) / 2, len(sums) - 1)
    tail = float(stats.norm.cdf(-width))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), n, len(sums))
