"""Options that are lists of numbers."""

import math
from collections.abc import Sequence

from mtmed.errors import InputError

__all__ = ["require_numbers"]


def require_numbers(name: str, values: object, *, count: int, least: float = -math.inf, whole: bool = False) -> None:
    """Refuse a list of another length, and what is no finite number or below a limit.

    Args:
        name: of the option.
        values: what was given.
        count: how many numbers there must be.
        least: the lowest number that is allowed.
        whole: whether fractions are refused.

    Raises:
        InputError: naming count and limit.
    """
    listed = isinstance(values, Sequence) and len(values) == count
    kind = int if whole else (int, float)
    if not (listed and all(_is_number(value, kind) and value >= least for value in values)):  # type: ignore[attr-defined]
        limit = "" if least == -math.inf else f" of {least:g} or more"
        what = f"{'whole ' if whole else ''}number{'s' if count > 1 else ''}"
        raise InputError(name, f"is {values!r}", f"give {count} {what}{limit}")


def _is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]
