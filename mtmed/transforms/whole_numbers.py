"""Whole numbers in a text, as run lengths are written."""

import re

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = ["parse_whole_numbers"]

_BLANKS = r"[ \t\r\n]"  # of all that \s allows, these are what numbers are separated by
_WHOLE_NUMBERS = re.compile(rf"{_BLANKS}*(?:-?[0-9]{{1,18}}(?:{_BLANKS}+|$))*")


def parse_whole_numbers(text: str, culprit: str) -> NDArray[np.int64]:
    """Numbers of a text with blanks between them, none of an empty text.

    Args:
        text: the text.
        culprit: what the message calls it, a plural.

    Raises:
        InputError: a field is no whole number, or has more than 18 digits.
    """
    if not _WHOLE_NUMBERS.fullmatch(text):
        wrong = next(field for field in re.split(_BLANKS, text) if not _WHOLE_NUMBERS.fullmatch(field))
        raise InputError(culprit, f"have the field {wrong[:20]!r}", "write whole numbers with blanks between them")
    return np.fromstring(text, np.int64, sep=" ") if text.strip() else np.zeros(0, np.int64)
