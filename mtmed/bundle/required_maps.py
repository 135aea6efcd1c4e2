"""Voxel maps that a run needs beside images and labels."""

from collections.abc import Container, Mapping, Sequence

from mtmed.errors import InputError

__all__ = ["require_maps"]


def require_maps(cases: Mapping[str, Container[str]], names: Sequence[str]) -> None:
    """Refuse cases that lack a map, before time is spent on them.

    Args:
        cases: which maps each case has, by the name of the case.
        names: what all of them need, for example ``["tissue", "brain_mask"]``.

    Raises:
        InputError: naming the first case that lacks one, and how many others do.
    """
    for name in names:
        lacking = [case for case, maps in cases.items() if name not in maps]
        if lacking:
            more = len(lacking) - 1
            others = f", like {more} other case{'s' if more > 1 else ''}" if more else ""
            raise InputError(lacking[0], f"has no map {name!r}{others}", f'list it: "maps": {{"{name}": PATH}}')
