"""Options that are lists of numbers."""

import math
from collections.abc import Sequence

from mtmed.errors import InputError

__all__ = ["require_numbers"]


def require_numbers(name: str, values: object, *, count: int, least: float = -math.inf) -> None:
    """Refuse a list of another length, and what is no finite number or below a limit.

    Args:
        name: of the option.
        values: what was given.
        count: how many numbers there must be.
        least: the lowest number that is allowed.

    Raises:
        InputError: naming count and limit.
    """
    listed = isinstance(values, Sequence) and len(values) == count
    if not (listed and all(_is_number(value) and value >= least for value in values)):  # type: ignore[attr-defined]
        limit = "" if least == -math.inf else f" of {least:g} or more"
        raise InputError(name, f"is {values!r}", f"give {count} number{'s' if count > 1 else ''}{limit}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
