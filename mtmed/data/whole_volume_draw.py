"""Volumes as a whole, or their halves, as training samples."""

from typing import Literal, get_args

import numpy as np

from mtmed.data.draw import Box
from mtmed.data.volumes import Volumes
from mtmed.errors import InputError

__all__ = ["PartOfVolume", "VolumePart"]

PartOfVolume = Literal["whole", "half"]
"""The whole volume, or one of its halves along the first axis."""


class VolumePart:
    """The whole volume, or its left or right half at random, for a network that takes any size.

    ``"patch"`` is a box of all voxels of the part, exactly: a network that needs other sizes pads it in training as it
    does in inference. A half has the first or the last n/2 of n voxels (rounded up) along the first axis, which in RAS
    orientation runs from left to right.

    Whole volumes: Dhere, Sivaswamy 2021 (arXiv 2101.05456); halves: their code.

    Args:
        part: ``"whole"`` or ``"half"``.

    Raises:
        InputError: the option has another value.
    """

    def __init__(self, *, part: PartOfVolume = "whole") -> None:
        if part not in get_args(PartOfVolume):
            raise InputError("part", f"is {part!r}", f"choose one of {', '.join(get_args(PartOfVolume))}")
        self.part = part

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> dict[str, Box]:
        """Draw the box; see `mtmed.data.draw.Draw`."""
        extents = volumes[index].shape
        if self.part == "whole":
            return {"patch": Box(index, (0,) * len(extents), extents)}
        length = -(-extents[0] // 2)
        first = int(generator.integers(2)) * (extents[0] - length)
        return {"patch": Box(index, (first, *(0 for _ in extents[1:])), (length, *extents[1:]))}
