"""The forms that the values of a study file may have; what has another form is refused with its place."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtmed.errors import InputError

__all__ = ["is_name", "is_number", "is_whole", "nearest", "require_list", "require_mapping", "require_text"]


def nearest(name: str, known: Sequence[str]) -> str:
    """The remedy for an unknown name: the known name that it resembles, or all of them."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(known) or '(there are none)'}"


def require_mapping(value: Any, place: str, file: Path, known: Sequence[str] | None = None) -> Mapping[str, Any]:
    """The value, if it is a dictionary with known keys only."""
    if not isinstance(value, dict):
        raise InputError(f"{file}: {place}", f"is {value!r}, not a dictionary", "see docs/studies.md")
    for key in value:
        if known is not None and key not in known:
            raise InputError(f"{file}: {place}::{key}", "unknown key", nearest(key, list(known)))
    return value


def require_list(value: Any, place: str, file: Path, good: Any, meaning: str, *, some: bool = True) -> tuple[Any, ...]:
    """The values, if they are a list in which each is good and none stands twice."""
    if not isinstance(value, list) or (some and not value):
        raise InputError(f"{file}: {place}", f"is {value!r}", f"give a list of {meaning}")
    for number, item in enumerate(value):
        if not (isinstance(item, str | int | float) and good(item)):
            raise InputError(f"{file}: {place}", f"has {item!r}", f"give a list of {meaning}")
        if item in value[:number]:
            raise InputError(f"{file}: {place}", f"has {item!r} twice", "name each once")
    return tuple(value)


def require_text(value: Any, place: str, file: Path) -> str:
    """The value, if it is a text that is not empty."""
    if not is_name(value):
        raise InputError(f"{file}: {place}", f"is {value!r}", "give a text")
    return str(value)


def is_name(value: Any) -> bool:
    """Whether it is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def is_number(value: Any) -> bool:
    """Whether it is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
