"""Euclidean distance to the boundary of a mask, as a target of regression."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

try:
    from edt import edt
except ImportError:
    edt = None

__all__ = ["mask_distance"]


def mask_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Distance in voxels from each voxel of a mask to the nearest voxel outside it; 0 outside.

    As SciPy's ``distance_transform_edt``: voxels at the boundary have distance 1, and the edge of the image is no
    boundary.

    Args:
        mask: H W [D].

    Returns:
        float32 of the mask's shape; None if the mask fills the image, where there is no boundary.
    """
    if mask.all():
        return None
    distance = np.zeros(mask.shape, np.float32)
    if not mask.any():
        return distance
    # with a margin of one voxel, the box of the mask holds the nearest outside voxel of each of its voxels
    box = tuple(_extent(mask, axis) for axis in range(mask.ndim))
    inside = np.ascontiguousarray(mask[box])
    distance[box] = distance_transform_edt(inside) if edt is None else edt(inside, black_border=False, parallel=1)
    return distance


def _extent(mask: NDArray[np.bool_], axis: int) -> slice:
    places = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
    return slice(max(int(places[0]) - 1, 0), int(places[-1]) + 2)
