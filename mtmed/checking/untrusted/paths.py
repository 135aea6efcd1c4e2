"""Texts that are addresses or lead out of a bundle's folder."""

import re

__all__ = ["path_fault"]

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ABSOLUTE = re.compile(r"^(/(?!\s|$)|~|[A-Za-z]:[\\/]|\\\\)")
_CLIMBING = re.compile(r"(^|[\\/])\.\.([\\/]|$)")


def path_fault(text: str, *, appended: bool = False) -> tuple[str, str]:
    """Kind of a text (``url``, ``path``) and why it is suspicious; both are empty for any other text.

    Args:
        text: the text.
        appended: whether it is put behind other text, so that a slash at its start makes it no absolute path.
    """
    if _URL.search(text):
        return "url", "is an address on a network"
    if _CLIMBING.search(text):
        return "path", "climbs out of the folder"
    if not appended and _ABSOLUTE.search(text):
        return "path", "is an absolute path"
    return "", ""
