"""Whether weights files are of networks that see the same images and segment the same organs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmed.errors import InputError

__all__ = ["require_agreement"]


def require_agreement(
    path: str | Path,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    keys: Sequence[str],
    *,
    whose: str,
    remedy: str,
) -> None:
    """Refuse a weights file with other settings.

    Args:
        path: the file.
        found: its settings.
        wanted: what they must be.
        keys: names of the settings that count; one that both lack is equal.
        whose: who has the wanted settings.
        remedy: what to do.

    Raises:
        InputError: naming the file, the first setting that differs and both values.
    """
    for key in keys:
        if _plain(found.get(key)) != _plain(wanted.get(key)):
            problem = f"was trained with {key} {found.get(key)}, {whose} with {wanted.get(key)}"
            raise InputError(path, problem, remedy)


def _plain(value: Any) -> Any:
    """A value in which sequences are lists, as a config and a file may differ in that."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
