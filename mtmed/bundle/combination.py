"""Options that cannot be meant together are refused."""

from mtmed.errors import InputError

__all__ = ["refuse_combination"]


def refuse_combination(option: str, problem: str, remedy: str, *, when: bool) -> None:
    """Refuse an option together with others, before anything is read.

    Args:
        option: the option.
        problem: what is wrong with it beside the others.
        remedy: what to do instead.
        when: whether the combination is given.

    Raises:
        InputError: if it is.
    """
    if when:
        raise InputError(option, problem, remedy)
