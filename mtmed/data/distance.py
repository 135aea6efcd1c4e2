"""How far every voxel lies inside the region of its own class."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

try:
    from edt import edt
except ImportError:
    edt = None

__all__ = ["DISTANCE_UNITS", "DistanceUnit", "boundary_distance", "voxel_size"]

DistanceUnit = Literal["voxel", "mm"]
DISTANCE_UNITS = ("voxel", "mm")


def voxel_size(affine: NDArray[np.float64], unit: DistanceUnit) -> tuple[float, float, float]:
    """Size of a voxel along each axis: 1 in voxels, the length of the affine's columns in mm."""
    if unit == "voxel":
        return (1.0, 1.0, 1.0)
    first, second, third = np.linalg.norm(affine[:3, :3], axis=0)
    return (float(first), float(second), float(third))


def boundary_distance(label: NDArray[Any], *, spacing: Sequence[float] | None = None) -> NDArray[np.float16]:
    """Euclidean distance from each voxel to the nearest voxel of another class.

    D(v) = min over u with label(u) != label(v) of |u - v|; background counts as a class, the edge of the volume does
    not count as a boundary. In voxels, those next to another class have distance 1. In a volume of one class only,
    where no boundary exists, D is the length of the volume's diagonal.

    Args:
        label: class of each voxel, integers, (H, W, D) or (H, W).
        spacing: size of a voxel along each axis, which gives the unit; None for distances in voxels.

    Returns:
        Distances of the label's shape.
    """
    spacing = (1.0,) * label.ndim if spacing is None else tuple(spacing)
    if label.min() == label.max():
        return np.full(label.shape, np.linalg.norm(np.multiply(label.shape, spacing)), np.float16)
    if edt is not None:
        # 0 would be left out as background, hence every class is moved up by one, the lowest to 1
        regions = (label - label.min()).astype(np.uint32)
        regions += 1
        regions = np.ascontiguousarray(regions)
        whole: NDArray[np.float32] = edt(regions, anisotropy=spacing, black_border=False, parallel=1)
        return whole.astype(np.float16)
    distance = np.zeros(label.shape, np.float16)
    for value in np.unique(label):
        region = label == value
        distance[region] = distance_transform_edt(region, sampling=spacing)[region]
    return distance
