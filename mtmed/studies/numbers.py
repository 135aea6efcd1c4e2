"""Numbers as the reports of a study write them."""

import math

from mtmed.metrics.interval import Interval

__all__ = ["interval_text", "number_text", "p_text"]


def number_text(value: float, digits: int, *, sign: bool = False) -> str:
    """A number with so many decimals, with its sign also if positive on request; ``-`` where there is none."""
    return f"{value:{'+' if sign else ''}.{digits}f}" if math.isfinite(value) else "-"


def p_text(value: float) -> str:
    """A p-value with three significant digits; ``-`` where there is none."""
    return f"{value:.3g}" if math.isfinite(value) else "-"


def interval_text(interval: Interval, digits: int, *, sign: bool = False) -> str:
    """A mean and its interval, as in ``0.575 (0.501 to 0.649)``; ``-`` where there is no value.

    Args:
        interval: the mean and its ends, NaN where there is none.
        digits: number of decimals.
        sign: whether positive numbers have their sign, as in differences.
    """
    if not interval.n:
        return "-"
    mean, low, high = (number_text(value, digits, sign=sign) for value in interval[:3])
    return f"{mean} ({low} to {high})" if math.isfinite(interval.low) else f"{mean} (no interval)"
