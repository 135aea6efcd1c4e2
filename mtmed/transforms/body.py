"""Where the body lies in a CT, and the plane between its left and right half."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["body_mask", "grid_middle", "median_index"]

_TISSUE = -300.0  # HU: above it fat, muscle, bone; below it air, lung, and the foam of a table
_WORKING_SPACING = 4.0  # mm
_THIN = 1  # working voxels: what is thinner than three of them (table, sheet, clothes) is no body
_FULL = 0.99  # of the grid: a body that fills it leaves no air to be seen against


def body_mask(image: NDArray[Any], *, spacing: Sequence[float]) -> NDArray[np.bool_] | None:
    """Voxels of the body in a CT.

    The largest connected part above -300 HU, after an opening that parts it from table and clothes; air that it
    encloses in an axial slice (lung, bowel) belongs to it. It is found at a spacing of about 4 mm, so its surface is
    that rough. Arms that touch the trunk belong to it, raised or lowered arms that do not touch it do not.

    Args:
        image: H W D in HU, oriented RAS.
        spacing: size of a voxel along each axis, mm.

    Returns:
        H W D; None if there is no body, or no air around one, as in a label map or in a windowed image.
    """
    if image.ndim != 3:
        raise ValueError(f"image has shape {image.shape}, expected H W D.")
    steps = [max(1, round(_WORKING_SPACING / length)) for length in spacing]
    coarse = np.ascontiguousarray(image[tuple(slice(None, None, step) for step in steps)]) > _TISSUE
    # mirrored beyond the borders, so that what touches them is not eaten away there
    padded = np.pad(coarse, _THIN, mode="edge")
    opened = ndimage.binary_opening(padded, iterations=_THIN)[(slice(_THIN, -_THIN),) * 3]
    parts, count = ndimage.label(opened)
    if count == 0:
        return None
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body: NDArray[np.bool_] = parts == np.argmax(sizes)
    for index in range(body.shape[2]):
        body[:, :, index] = ndimage.binary_fill_holes(body[:, :, index])
    if body.mean() > _FULL:
        return None
    for axis, (step, length) in enumerate(zip(steps, image.shape, strict=True)):
        body = body.repeat(step, axis).take(np.arange(length), axis)
    return body


def grid_middle(shape: Sequence[int]) -> float:
    """Position of the middle of a grid on axis 0, in voxels: 1.5 for four voxels."""
    return (shape[0] - 1) / 2


def median_index(mask: NDArray[np.bool_]) -> float:
    """Position on axis 0 with half of a mask's voxels on either side, between voxels where the half falls so.

    For the mask of a body it is the mid-sagittal plane: unlike the middle between the body's outermost points it hardly
    moves for one arm beside the trunk.

    Args:
        mask: H W D, at least one voxel.
    """
    below = np.concatenate([[0], np.cumsum(np.count_nonzero(mask, axis=(1, 2)))])
    # the voxel with index i reaches from i - 0.5 to i + 0.5
    return float(np.interp(below[-1] / 2, below, np.arange(len(below)) - 0.5))
