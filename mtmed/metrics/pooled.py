"""Means over everything that patients have together, and how sure they are with the patient as the unit."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtmed.metrics.interval import resampled_interval
from mtmed.metrics.tables import finite_or_none

__all__ = ["PatientSums", "Scored", "patient_numbers", "patient_sums", "pooled_value"]


class Scored(Protocol):
    """What belongs to a patient of a data set."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""

    @property
    def group(self) -> str:
        """Patient."""


@dataclass(frozen=True)
class PatientSums:
    """A sum of each patient, and what it is divided by.

    Attributes:
        totals: sum of the values of each patient, P.
        counts: their number, or another sum, P.
    """

    totals: NDArray[np.float64]
    counts: NDArray[np.float64]

    def ratio(self, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the totals by that of the counts, if patients are drawn so often, R P; NaN where there is nothing."""
        totals, counts = drawn @ self.totals, drawn @ self.counts
        nothing = np.full(len(drawn), math.nan)
        return np.asarray(np.divide(totals, counts, out=nothing, where=counts > 0))

    def with_ends(self, lowest: float, highest: float) -> "PatientSums":
        """The same with two patients more, who have the average count, one at each end of the range, P + 2.

        Args:
            lowest: ratio of the one.
            highest: ratio of the other.
        """
        count = self.counts.mean()
        totals = np.append(self.totals, [lowest * count, highest * count])
        return PatientSums(totals, np.append(self.counts, [count, count]))


def patient_numbers(rows: Sequence[Scored]) -> dict[str, int]:
    """Number of each patient, from 0, in the order of the rows."""
    return {name: number for number, name in enumerate(dict.fromkeys(f"{one.dataset}/{one.group}" for one in rows))}


def patient_sums(rows: Sequence[Scored], values: Sequence[float], patients: Mapping[str, int]) -> PatientSums:
    """Sum and number of the finite values of each patient.

    Args:
        rows: whose each value is.
        values: one per row.
        patients: see `patient_numbers`.
    """
    owners = np.array([patients[f"{one.dataset}/{one.group}"] for one in rows], np.int64)
    given = np.asarray(values, np.float64)
    finite = np.isfinite(given)
    totals = np.bincount(owners, np.where(finite, given, 0.0), len(patients))
    counts = np.bincount(owners, finite, len(patients))
    return PatientSums(totals.astype(np.float64), counts.astype(np.float64))


def pooled_value(
    statistic: Callable[..., NDArray[np.float64]],
    sums: Sequence[PatientSums],
    *,
    bounds: Sequence[tuple[float, float]] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """A statistic of ratios of sums over patients with its 95 % interval, see `mtmed.metrics.resampled_interval`.

    Args:
        statistic: takes the ratio of each of `sums` as an argument, one value per resample, and gives one per resample.
        sums: what it is made of; patients without a share in any are not drawn.
        bounds: of each ratio, its value where the statistic is as low as possible, and where it is as high; None if the
            ratios have no range.
        seed: seed of the bootstrap.

    Returns:
        ``{"mean", "low", "high", "n_patients"}``; None where there is no value.
    """
    taking_part = np.flatnonzero(np.sum([one.totals + one.counts for one in sums], axis=0) > 0)
    patients = len(taking_part)
    known = [PatientSums(one.totals[taking_part], one.counts[taking_part]) for one in sums]
    mean = float(statistic(*(one.ratio(np.ones((1, patients))) for one in known))[0])
    low = high = math.nan
    if math.isfinite(mean) and patients > 1:
        if bounds is not None:
            known = [one.with_ends(*ends) for one, ends in zip(known, bounds, strict=True)]
        low, high = resampled_interval(
            lambda drawn: statistic(*(one.ratio(drawn) for one in known)),
            patients,
            seed=seed,
            with_ends=bounds is not None,
        )
        if bounds is not None:
            low, high = min(low, mean), max(high, mean)
    return {
        "mean": finite_or_none(mean),
        "low": finite_or_none(low),
        "high": finite_or_none(high),
        "n_patients": patients,
    }
