"""Smoothing of curves: a moving average for the validation Dice, an exponential one for the loss."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

__all__ = ["SMOOTHING", "arrival", "dice_window", "exponential_moving_average", "moving_average"]

_SHARE = 20  # as SMOOTHING says
_LOSS_SHARE = 50  # of a run's iterations
_ROUNDING = 1e-9  # of a mean of Dice values

SMOOTHING = "mean of the last validations, a twentieth of those of the longest run with that share of the labels"
"""The smoothing of the Dice in words, for reports."""


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


def exponential_moving_average(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential moving average over a fiftieth of the curve, without the pull towards a first value.

    With the span s = max(1, floor(n / 50)) and a = 2 / (s + 1) it is the mean of all values up to here with weights
    ``(1 - a)**age``. Curves of up to 99 values stay as they are. It is for losses, whose single values scatter more
    than those of a validation; nothing is computed from it.

    Args:
        values: n finite values.
    """
    weight = 2.0 / (max(1, len(values) // _LOSS_SHARE) + 1)
    decay = 1.0 - weight
    filtered = lfilter([weight], [1.0, -decay], values)
    return np.asarray(filtered / (1.0 - decay ** np.arange(1, len(values) + 1)))


def arrival(values: NDArray[np.float64], target: float) -> int | None:
    """Index of the first value that is at a target or above, rounding aside; None if none is."""
    there = np.flatnonzero(values >= target - _ROUNDING)
    return int(there[0]) if len(there) else None
