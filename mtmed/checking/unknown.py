"""A value of a config that only running it would tell."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

__all__ = ["NotKnownError", "Unknown", "holds_unknown"]


class NotKnownError(Exception):
    """Something depends on a value that is not known; it is not known either."""


class Unknown:
    """Stands for a value that is not known: what is read or called of it is as unknown; deciding by it fails.

    Args:
        why: for messages.
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def __repr__(self) -> str:
        return f"<not known: {self._why}>"

    def __getattr__(self, name: str) -> "Unknown":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "Unknown":
        """As unknown."""
        return self

    def __getitem__(self, key: Any) -> "Unknown":
        return self

    def __add__(self, other: Any) -> "Unknown":
        return self

    __radd__ = __mul__ = __rmul__ = __add__

    def _refuse(self, *args: Any) -> NoReturn:
        raise NotKnownError(self._why)

    __bool__ = __len__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __int__ = _refuse
    __float__ = __index__ = _refuse
    __hash__ = object.__hash__

    def __iter__(self) -> Iterator[Any]:
        raise NotKnownError(self._why)


def holds_unknown(value: Any) -> bool:
    """Whether a value is unknown, or a list or dictionary that holds such a value."""
    if isinstance(value, Unknown):
        return True
    if isinstance(value, Mapping):
        return any(holds_unknown(item) for item in value.values())
    return isinstance(value, list | tuple | set) and any(holds_unknown(item) for item in value)
