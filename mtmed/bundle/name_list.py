"""Options that are lists of names."""

from collections.abc import Sequence

from mtmed.errors import InputError

__all__ = ["require_names"]


def require_names(name: str, values: object) -> list[str]:
    """Refuse a list that is empty, names something twice or holds anything but names.

    Args:
        name: of the option.
        values: what was given.

    Returns:
        The names.

    Raises:
        InputError: if it is no such list.
    """
    names = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []
    if not names or not all(isinstance(value, str) and value for value in names):
        raise InputError(name, f"is {values!r}", "give a list of names")
    doubled = [value for place, value in enumerate(names) if value in names[:place]]
    if doubled:
        raise InputError(name, f"has {doubled[0]!r} twice", "name each once")
    return names
