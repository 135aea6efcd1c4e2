"""Which axis of a volume counts its slices."""

from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

__all__ = ["slice_axis"]


def slice_axis(affine: NDArray[Any]) -> int:
    """The axis that runs nearest to the direction from feet to head, across which the slices lie.

    Args:
        affine: voxel index to RAS+ mm, 4 x 4.
    """
    return int(np.flatnonzero(io_orientation(affine)[:, 0] == 2)[0])
