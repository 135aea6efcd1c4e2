"""Moving average of a validation curve."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

__all__ = ["SMOOTHING", "arrival", "dice_window", "moving_average"]

_SHARE = 20  # as SMOOTHING says
_ROUNDING = 1e-9  # of a mean of Dice values

SMOOTHING = "mean of the last validations, a twentieth of those of the longest run with that share of the labels"
"""The smoothing in words, for reports."""


def dice_window(counts: Iterable[int]) -> int:
    """Validations that are averaged: a twentieth of those of the longest run, at least 1, the same for all runs.

    The paper on left and right kidneys (Dhere and Sivaswamy 2021, Fig. 5) shows its curves "after a moving average
    operation" and names no window. Ours is 10 epochs of its 200.

    Args:
        counts: number of validations of each run.
    """
    return max(1, max(counts, default=0) // _SHARE)


def moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean of the last `window` values up to each one, at the start of as many as there are.

    It looks only back, so that a curve reaches nothing before its values do, and all arms lag alike.

    Args:
        values: n finite values.
        window: number of values, from 1.

    Raises:
        ValueError: if `window` is below 1.
    """
    if window < 1:
        raise ValueError(f"window is {window}; give a number from 1.")
    if not len(values):
        return values
    sums = lfilter(np.ones(window), [1.0], values)
    return np.asarray(sums / np.minimum(np.arange(1, len(values) + 1), window), np.float64)


def arrival(values: NDArray[np.float64], target: float) -> int | None:
    """Index of the first value that is at a target or above, rounding aside; None if none is."""
    there = np.flatnonzero(values >= target - _ROUNDING)
    return int(there[0]) if len(there) else None
