"""Boundaries of masks: their voxels, and how far two boundaries differ in length."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["boundary_difference", "bounding_box", "inner_boundary"]


def inner_boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of a mask with a voxel outside it as a face neighbour; outside the image counts as outside the mask.

    Args:
        mask: H W [D].
    """
    return np.asarray(mask ^ ndimage.binary_erosion(mask))


def boundary_difference(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    r"""Difference in boundary length, as a share of the reference's.

    .. math:: \frac{\left| |\partial P| - |\partial R| \right|}{|\partial R|}

    with :math:`|\partial M|` the number of voxels of the `inner_boundary`. It says nothing of where the boundaries lie.

    Source: "BL" of Dhere and Sivaswamy 2021 (arXiv 2101.05456), described in words only; the formula is that of the
    author's code. Different from it at the border of the image: there the organ ends for us, so that a voxel on the
    border is on the boundary, as for surface distances.

    Args:
        prediction: mask H W [D].
        reference: mask of the same shape.

    Returns:
        0 for equal lengths, 1 for an empty prediction, no upper end; NaN for an empty reference.
    """
    lengths = [int(np.count_nonzero(inner_boundary(mask[bounding_box(mask)]))) for mask in (prediction, reference)]
    return abs(lengths[0] - lengths[1]) / lengths[1] if lengths[1] else math.nan


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Smallest box that holds a mask; empty slices if the mask is."""
    box = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(box)
