"""Options that are words."""

from collections.abc import Sequence

from mtmed.errors import InputError

__all__ = ["require_choice"]


def require_choice(name: str, value: object, choices: Sequence[str], *, because: str = "") -> None:
    """Refuse a word that is none of the choices.

    Args:
        name: of the option.
        value: what was given.
        choices: what is allowed.
        because: why these, where it depends on other options.

    Raises:
        InputError: naming the choices.
    """
    if value not in choices:
        reason = f" ({because})" if because else ""
        raise InputError(name, f"is {value!r}{reason}", f"choose one of {', '.join(choices)}")
