"""Run lengths of the UW-Madison masks: ``start length start length ...``, row by row, the first pixel is 1.

Other data sets count columns first, start at 0, or give gaps instead of starts; these are other formats.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.whole_numbers import parse_whole_numbers

__all__ = ["decode_run_lengths", "encode_run_lengths"]

_CULPRIT = "run lengths"


def decode_run_lengths(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask of a text of run lengths.

    Args:
        text: pairs of start and length, separated by blanks; empty for an empty mask.
        shape: rows and columns of the image.

    Returns:
        The mask, (rows, columns).

    Raises:
        InputError: a field is no whole number; the number of fields is odd; a start or length is below 1; a run leaves
            the image; runs overlap.
    """
    mask = np.zeros(shape, np.bool_)
    flat = mask.reshape(-1)
    for start, end in _bounds(text, shape).tolist():
        flat[start:end] = True
    return mask


def encode_run_lengths(mask: NDArray[Any]) -> str:
    """Text of run lengths of a mask (rows, columns), whose pixels other than 0 are inside; empty for an empty mask."""
    if mask.ndim != 2:
        raise ValueError(f"the mask has {mask.ndim} dimensions, allowed are 2; give one slice.")
    inside = np.zeros(mask.size + 2, np.int8)
    inside[1:-1] = mask.reshape(-1) != 0
    changes = np.flatnonzero(np.diff(inside))
    runs = np.stack([changes[::2] + 1, changes[1::2] - changes[::2]], axis=1)
    return " ".join(map(str, runs.ravel().tolist()))


def _bounds(text: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    """First and past-the-last index of each run in the flattened image, (runs, 2)."""
    numbers = parse_whole_numbers(text, _CULPRIT)
    if numbers.size % 2:
        problem = f"have {numbers.size} fields, an odd number"
        raise InputError(_CULPRIT, problem, "write a start and a length for each run")
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    ends = starts + lengths
    bounds = np.stack([starts, ends], axis=1)
    if numbers.size and numbers.min() < 1:
        first = int(np.flatnonzero((starts < 0) | (lengths < 1))[0])
        problem = f"have a run from {starts[first] + 1} of length {lengths[first]}"
        raise InputError(_CULPRIT, problem, "starts and lengths count from 1")
    rows, columns = shape
    if (ends > rows * columns).any():
        first = int(np.flatnonzero(ends > rows * columns)[0])
        problem = f"have a run from pixel {starts[first] + 1} to {ends[first]}, the image has {columns}x{rows}"
        raise InputError(_CULPRIT, f"{problem} = {rows * columns} pixels", "give the masks of this image")
    if (starts[1:] < ends[:-1]).any():
        bounds = bounds[np.argsort(starts, kind="stable")]
        overlaps = np.flatnonzero(bounds[1:, 0] < bounds[:-1, 1])
        if overlaps.size:
            (start, end), (second, _) = bounds[overlaps[0] : overlaps[0] + 2]
            problem = f"overlap: a run goes from pixel {start + 1} to {end}, another starts at {second + 1}"
            raise InputError(_CULPRIT, problem, "write each pixel of a mask once")
    return bounds
