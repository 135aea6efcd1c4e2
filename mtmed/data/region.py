"""A region of a volume, such as one kidney, and how an image shows it.

A region is the voxels of one value of a map on the image's grid; its place is their bounding box, which the volume
store keeps. What lies around it in the box is zero.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtmed.data.volumes import Volume
from mtmed.errors import InputError

__all__ = ["SIDES", "Region", "centred_start", "read_region"]

SIDES: Mapping[int, str] = MappingProxyType({1: "left", 2: "right"})
"""The patient's sides as values of a map; 0 is neither."""


class Region(NamedTuple):
    """Which region of a volume is shown, and how: zero outside of it.

    Attributes:
        map: name of the map that holds it, or ``label``.
        value: its value there.
        constant: show its shape alone: 1 inside, whatever the intensities.
        mirrored: flip the box along its first axis, which in RAS orientation runs from left to right.
    """

    map: str
    value: int
    constant: bool = False
    mirrored: bool = False


def read_region(volume: Volume, start: Sequence[int], size: Sequence[int], region: Region) -> NDArray[np.float32]:
    """Read a box of a volume as a region is to be shown.

    Args:
        volume: where to read.
        start: first voxel (H, W, D); may be negative.
        size: extent of the box, voxels; what lies outside the volume is zero.
        region: the region.

    Returns:
        The image, float32 (C, h, w, d).

    Raises:
        ValueError: the volume has no such map.
    """
    arrays = volume.crop(start, size)
    if region.map not in arrays:
        raise ValueError(f"the map is {region.map!r}, {volume.case.key} has {', '.join(volume.maps) or 'none'}")
    image: NDArray[Any] = arrays["image"]
    inside = arrays[region.map] == region.value
    image = np.where(inside, np.ones_like(image) if region.constant else image, np.float32(0))
    return np.ascontiguousarray(np.flip(image, axis=1)) if region.mirrored else image


def centred_start(volume: Volume, size: Sequence[int], region: Region) -> tuple[int, ...]:
    """First voxel of the box of a size whose centre is that of the region's bounding box.

    So a larger region is cut alike on both sides, and a smaller one gets the same margin on both. Where this cannot be
    even, one more voxel lies before the region; in a mirrored box behind it, so that after the flip mirrored and plain
    boxes cannot be told apart by their margins.

    Raises:
        InputError: the size has another number of dimensions than the volume.
        ValueError: no voxel of the volume belongs to the region.
    """
    if len(size) != len(volume.shape):
        problem = f"has {len(size)} extents, the volume {volume.case.key} has {len(volume.shape)} dimensions"
        raise InputError("region_size", problem, "give one extent per dimension")
    bounds = volume.bounds(region.map, region.value)
    if bounds is None:
        raise ValueError(f"{volume.case.key} has no voxel of value {region.value} in {region.map!r}")
    twice = [low + high - length for low, high, length in zip(*bounds, size, strict=True)]
    start = [doubled // 2 for doubled in twice]
    if region.mirrored:
        start[0] = -(-twice[0] // 2)
    return tuple(start)
