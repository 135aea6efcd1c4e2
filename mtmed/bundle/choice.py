"""Options that are words."""

from collections.abc import Sequence

from mtmed.errors import InputError

__all__ = ["require_choice"]


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a word that is none of the choices.

    Args:
        name: of the option.
        value: what was given.
        choices: what is allowed.

    Raises:
        InputError: naming the choices.
    """
    if value not in choices:
        raise InputError(name, f"is {value!r}", f"choose one of {', '.join(choices)}")
