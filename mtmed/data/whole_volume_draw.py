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
    """The whole volume, or its left or right half at random, for a network that takes sizes of a multiple.

    ``"patch"`` is a box of all voxels of the part, widened alike on both ends of each axis (one voxel more at the far
    end if this cannot be even) to the next multiple. What lies outside the volume is zero. A half has the first or the
    last n/2 of n voxels (rounded up) along the first axis, which in RAS orientation runs from left to right; what it is
    widened by towards the middle shows the voxels that are there.

    Whole volumes, padded to a multiple of 16: Dhere, Sivaswamy 2021 (arXiv 2101.05456); halves: their code.

    Args:
        part: ``"whole"`` or ``"half"``.
        multiple: what each extent of the box is a multiple of, voxels.

    Raises:
        InputError: an option has another value.
    """

    def __init__(self, *, part: PartOfVolume = "whole", multiple: int = 16) -> None:
        if part not in get_args(PartOfVolume):
            raise InputError("part", f"is {part!r}", f"choose one of {', '.join(get_args(PartOfVolume))}")
        if not isinstance(multiple, int) or multiple < 1:
            raise InputError("multiple", f"is {multiple}, allowed is a whole number >= 1", "correct it")
        self.part = part
        self.multiple = multiple

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> dict[str, Box]:
        """Draw the box; see `mtmed.data.draw.Draw`."""
        first, extents = [0] * len(volumes[index].shape), list(volumes[index].shape)
        if self.part == "half":
            length = -(-extents[0] // 2)
            first[0] = int(generator.integers(2)) * (extents[0] - length)
            extents[0] = length
        size = tuple(-(-extent // self.multiple) * self.multiple for extent in extents)
        start = tuple(low - (length - extent) // 2 for low, length, extent in zip(first, size, extents, strict=True))
        return {"patch": Box(index, start, size)}
