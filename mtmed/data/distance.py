"""How far every voxel lies inside the region of its own class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

try:
    from edt import edt
except ImportError:
    edt = None

__all__ = ["boundary_distance"]


def boundary_distance(label: NDArray[Any]) -> NDArray[np.float16]:
    """Euclidean distance from each voxel to the nearest voxel of another class.

    D(v) = min over u with label(u) != label(v) of |u - v|, in voxels; background counts as a class, the edge of the
    volume does not count as a boundary. Voxels next to another class have distance 1. In a volume of one class only,
    where no boundary exists, D is the length of the volume's diagonal.

    Args:
        label: class of each voxel, integers, (H, W, D) or (H, W).

    Returns:
        Distances of the label's shape, voxels.
    """
    if label.min() == label.max():
        return np.full(label.shape, np.linalg.norm(label.shape), np.float16)
    if edt is not None:
        # 0 would be left out as background, hence every class is moved up by one, the lowest to 1
        regions = (label - label.min()).astype(np.uint32)
        regions += 1
        whole: NDArray[np.float32] = edt(np.ascontiguousarray(regions), black_border=False, parallel=1)
        return whole.astype(np.float16)
    distance = np.zeros(label.shape, np.float16)
    for value in np.unique(label):
        region = label == value
        distance[region] = distance_transform_edt(region)[region]
    return distance
