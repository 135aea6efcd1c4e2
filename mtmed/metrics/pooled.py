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
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], sums: Sequence[PatientSums], *, seed: int = 0
) -> dict[str, Any]:
    """A statistic of sums of patients with its 95 % interval.

    Args:
        statistic: takes how often each patient is drawn, resamples x patients, and gives a value for each resample.
        sums: what it is made of; patients without a share in any are not drawn.
        seed: seed of the bootstrap.

    Returns:
        ``{"mean", "low", "high", "n_patients"}``; None where there is no value.
    """
    parts = np.sum([one.totals + one.counts for one in sums], axis=0)
    taking_part = np.flatnonzero(parts > 0)

    def of_those(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        everyone = np.zeros((len(drawn), len(parts)))
        everyone[:, taking_part] = drawn
        return statistic(everyone)

    mean = float(of_those(np.ones((1, len(taking_part))))[0])
    low = high = math.nan
    if math.isfinite(mean) and len(taking_part) > 1:
        low, high = resampled_interval(of_those, len(taking_part), seed=seed)
    return {
        "mean": finite_or_none(mean),
        "low": finite_or_none(low),
        "high": finite_or_none(high),
        "n_patients": len(taking_part),
    }
