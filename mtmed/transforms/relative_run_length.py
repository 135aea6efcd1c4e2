"""Run lengths of the SIIM-ACR pneumothorax masks: ``gap length gap length ...``, column by column.

A gap counts the pixels since the end of the run before (at first: since the upper left pixel), so that no number is a
place in the image. `mtmed.transforms.run_length` is another format.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.whole_numbers import parse_whole_numbers

__all__ = ["decode_relative_run_lengths", "encode_relative_run_lengths"]

_CULPRIT = "run lengths"
_EMPTY = "-1"


def decode_relative_run_lengths(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask of a text of relative run lengths.

    Args:
        text: pairs of gap and length, separated by blanks; empty or ``-1`` for an empty mask. Columns are read from top
            to bottom, from left to right.
        shape: rows and columns of the image.

    Returns:
        The mask, (rows, columns).

    Raises:
        InputError: a field is no whole number; the number of fields is odd; a gap is negative or a length below 1; a
            run leaves the image.
    """
    rows, columns = shape
    mask = np.zeros((columns, rows), np.bool_)
    flat = mask.reshape(-1)
    for start, end in _bounds(text, shape).tolist():
        flat[start:end] = True
    return mask.T


def encode_relative_run_lengths(mask: NDArray[Any]) -> str:
    """Text of relative run lengths of a mask (rows, columns), whose pixels other than 0 are inside; ``-1`` if none."""
    if mask.ndim != 2:
        raise ValueError(f"the mask has {mask.ndim} dimensions, allowed are 2; give one image.")
    inside = np.zeros(mask.size + 2, np.int8)
    inside[1:-1] = mask.T.reshape(-1) != 0
    changes = np.flatnonzero(np.diff(inside))
    if not changes.size:
        return _EMPTY
    return " ".join(map(str, np.diff(changes, prepend=0).tolist()))


def _bounds(text: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    """First and past-the-last index of each run in the image flattened by columns, (runs, 2)."""
    if text.strip() in ("", _EMPTY):
        return np.zeros((0, 2), np.int64)
    numbers = parse_whole_numbers(text, _CULPRIT)
    if numbers.size % 2:
        problem = f"have {numbers.size} fields, an odd number"
        raise InputError(_CULPRIT, problem, "write a gap and a length for each run, or -1 for an empty mask")
    rows, columns = shape
    pixels = rows * columns
    gaps, lengths = numbers[::2], numbers[1::2]
    if (gaps < 0).any() or (lengths < 1).any():
        first = int(np.flatnonzero((gaps < 0) | (lengths < 1))[0])
        problem = f"have a gap of {gaps[first]} before a run of length {lengths[first]}"
        raise InputError(_CULPRIT, problem, "gaps count from 0 and lengths from 1")
    # numbers beyond the image are cut to it, else their sum may overflow
    ends = np.cumsum(np.minimum(numbers, pixels + 1))[1::2]
    if ends[-1] > pixels:
        first = int(np.flatnonzero(ends > pixels)[0])
        problem = f"have a gap of {gaps[first]} and a run of {lengths[first]} that lead out of the image"
        raise InputError(_CULPRIT, f"{problem} of {columns}x{rows} = {pixels} pixels", "give the masks of this image")
    return np.stack([ends - lengths, ends], axis=1)
