"""Dice of each slice of a scan, with a written rule for slices that lack the organ."""

import math

import numpy as np
from numpy.typing import NDArray

from mtmed.metrics.scores import EmptyPolicy

__all__ = ["dice_of_sizes", "dice_of_slices", "slice_dice", "slice_sizes"]


def slice_dice(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], *, empty: EmptyPolicy = "nan"
) -> NDArray[np.float64]:
    """2 |P and R| / (|P| + |R|) of each slice, as the paper's numbers can be understood.

    Args:
        prediction: mask D H W, slices first.
        reference: mask of the same shape.
        empty: what a slice counts whose reference is empty: ``"nan"`` leaves it out, whatever is predicted; ``"zero"``
            counts it 0; ``"one"`` counts it 1 if nothing is predicted, else 0.

    Returns:
        One value per slice, NaN for those left out.
    """
    return dice_of_slices(*slice_sizes(prediction, reference), empty=empty)


def dice_of_slices(
    both: NDArray[np.int64], in_reference: NDArray[np.int64], in_prediction: NDArray[np.int64], *, empty: EmptyPolicy
) -> NDArray[np.float64]:
    """The same from the sizes that `slice_sizes` counts."""
    dice = dice_of_sizes(both, in_reference, in_prediction, empty=empty)
    if empty == "nan":
        dice[in_reference == 0] = math.nan
    return dice


def slice_sizes(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Voxels of each slice in both masks, in the reference, and in the prediction.

    Args:
        prediction: mask D H W, slices first.
        reference: mask of the same shape.

    Raises:
        ValueError: if shapes differ or are not D H W.
    """
    if prediction.shape != reference.shape or reference.ndim != 3:
        raise ValueError(f"Masks have the shapes {prediction.shape} and {reference.shape}; give both as D H W.")
    both, in_reference, in_prediction = (
        np.count_nonzero(mask, axis=(1, 2)).astype(np.int64) for mask in (prediction & reference, reference, prediction)
    )
    return both, in_reference, in_prediction


def dice_of_sizes(
    both: NDArray[np.int64], in_reference: NDArray[np.int64], in_prediction: NDArray[np.int64], *, empty: EmptyPolicy
) -> NDArray[np.float64]:
    """Dice from the sizes of masks; that of two empty ones by the rule: NaN, 0 or 1.

    Raises:
        ValueError: if the rule is unknown.
    """
    if empty not in ("nan", "zero", "one"):
        raise ValueError(f"empty is {empty!r}; choose 'nan', 'zero' or 'one'.")
    size = in_reference + in_prediction
    rule = {"nan": math.nan, "zero": 0.0, "one": 1.0}[empty]
    return np.where(size > 0, 2.0 * both / np.maximum(size, 1), rule)
