"""Score of the UW-Madison GI Tract Image Segmentation competition (Kaggle 2022).

Its page states: 0.4 Dice of each image + 0.6 (1 - Hausdorff distance in 3D), slices stacked with a depth of 1, "pixel
locations are normalized by image size to create a bounded 0-1 score". Its program is not public. Our reading, also that
of the public re-implementation in MLE-bench: each coordinate, that of the slice too, is divided by the number of voxels
along its axis, and the distance by the diagonal of that unit cube; so the depth of a slice cancels. Not confirmed. Some
competitors divided the distance in voxels by the diagonal in voxels instead, which gives other numbers of about that
size.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mtmed.metrics.boundary import bounding_box, inner_boundary
from mtmed.metrics.scores import EmptyPolicy
from mtmed.metrics.slice_dice import dice_of_sizes, slice_sizes

_Values = TypeVar("_Values", float, NDArray[np.float64])

__all__ = ["DICE_WEIGHT", "competition_dice", "competition_score", "normalised_hausdorff"]

_BLOCK = 8  # side, voxels

DICE_WEIGHT = 0.4
"""Share of Dice in the competition's score; the rest is the Hausdorff distance's."""


def competition_dice(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], *, empty: EmptyPolicy = "nan"
) -> NDArray[np.float64]:
    """Dice of each slice as in the competition: what is predicted in a slice without the organ counts 0.

    The competition's page calls Dice 0 where both masks are empty (``"zero"``); but then the 0.88 of its third place
    would need every organ in 70 % of all slices. Slices that are empty in both are therefore left out by default, as
    MLE-bench does. A scan whose reference lacks the organ is ignored, as the organisers say they do
    (``happyharrycn/UW-Madison-GI-Tract-Segmentation-Data-Tools``).

    Args:
        prediction: mask D H W, slices first.
        reference: mask of the same shape.
        empty: Dice of two empty masks: ``"nan"`` (left out), ``"zero"`` or ``"one"``.

    Returns:
        One value per slice, NaN for those left out.
    """
    both, in_reference, in_prediction = slice_sizes(prediction, reference)
    if not in_reference.any() and in_prediction.any():
        return np.full(len(both), math.nan)
    return dice_of_sizes(both, in_reference, in_prediction, empty=empty)


def normalised_hausdorff(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], *, empty: EmptyPolicy = "nan"
) -> float:
    r"""Hausdorff distance of two masks in a unit cube, divided by the cube's diagonal: 0 to 1.

    With the voxels p and r of the masks, their indices divided by the number of voxels along each axis,

    .. math:: \frac{1}{\sqrt 3} \max\Bigl(\max_p \min_r |p - r|,\ \max_r \min_p |p - r|\Bigr).

    Args:
        prediction: mask D H W.
        reference: mask of the same shape.
        empty: rule for two empty masks: ``"nan"`` none, ``"zero"`` 1 (worst), ``"one"`` 0 (perfect). If only the
            prediction is empty, the distance is 1; if only the reference is, there is none (NaN).
    """
    in_prediction, in_reference = bool(prediction.any()), bool(reference.any())
    if not in_reference:
        return math.nan if in_prediction else {"nan": math.nan, "zero": 1.0, "one": 0.0}[empty]
    if not in_prediction:
        return 1.0
    box = bounding_box(prediction | reference)
    step = 1.0 / np.asarray(reference.shape, np.float64)
    one, other = prediction[box], reference[box]
    return max(_farthest(one, other, step), _farthest(other, one, step)) / math.sqrt(3.0)


def competition_score(dice: _Values, hausdorff: _Values) -> _Values:
    """0.4 Dice + 0.6 (1 - normalised Hausdorff distance)."""
    return DICE_WEIGHT * dice + (1.0 - DICE_WEIGHT) * (1.0 - hausdorff)


def _farthest(mask: NDArray[np.bool_], other: NDArray[np.bool_], step: NDArray[np.float64]) -> float:
    """Largest distance of a voxel of one mask to the nearest voxel of the other."""
    outside = np.argwhere(mask & ~other)
    if not len(outside):
        return 0.0
    # what is nearest to a voxel outside lies on the boundary: from any other voxel one step along an axis is nearer
    boundary = cKDTree(np.argwhere(inner_boundary(other)) * step)
    # only blocks of voxels can hold the farthest whose middle is about as far as any: millions need not be looked up
    grid = tuple(-(-side // _BLOCK) for side in mask.shape)
    blocks, block_of = np.unique(np.ravel_multi_index(tuple((outside // _BLOCK).T), grid), return_inverse=True)
    to_middle = (_BLOCK - 1) / 2
    from_middle, _ = boundary.query((np.stack(np.unravel_index(blocks, grid), axis=1) * _BLOCK + to_middle) * step)
    radius = float(np.linalg.norm(to_middle * step))
    distances, _ = boundary.query(outside[(from_middle >= from_middle.max() - 2 * radius)[block_of]] * step)
    return float(distances.max())
