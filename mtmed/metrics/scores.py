"""Scores of one case: Dice, HD95, surface Dice and boundary per organ, with a written rule for empty masks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mtmed.metrics.boundary import boundary_difference, bounding_box, inner_boundary

__all__ = ["EMPTY_RULES", "EmptyPolicy", "OrganScore", "has_value", "score_case", "score_masks"]

EmptyPolicy = Literal["nan", "zero", "one"]

EMPTY_RULES: dict[str, str] = {
    "both empty, nan": "not scored: Dice, HD95 and surface Dice are left out of means",
    "both empty, zero": "worst: Dice 0, surface Dice 0, HD95 the image's diagonal",
    "both empty, one": "perfect: Dice 1, surface Dice 1, HD95 0",
    "reference empty": "Dice 0, surface Dice 0; HD95 is left out (no surface to measure from)",
    "prediction empty": "a miss: Dice 0, surface Dice 0, HD95 the image's diagonal",
    "boundary difference": "left out where the reference is empty, whatever the rule; 1 where the prediction is",
}
"""What is scored where a mask is empty; goes into every report."""


@dataclass(frozen=True)
class OrganScore:
    """Scores of one organ in one case; NaN where there is no score.

    Attributes:
        dataset: data set of the case.
        case: id of the case.
        group: patient.
        organ: name of the organ.
        dice: 2 |P and R| / (|P| + |R|).
        hd95: larger of the two directed 95 % quantiles of the distances between the surfaces, mm.
        surface_dice: share of both surfaces that lies within the tolerance of the other.
        boundary_difference: see `mtmed.metrics.boundary_difference`.
        reference_ml: volume of the reference, ml.
        prediction_ml: volume of the prediction, ml.
        empty: the reference has none of the organ.
        missed: the reference has the organ, the prediction has none.
    """

    dataset: str
    case: str
    group: str
    organ: str
    dice: float
    hd95: float
    surface_dice: float
    boundary_difference: float
    reference_ml: float
    prediction_ml: float
    empty: bool
    missed: bool


def has_value(labels: NDArray[Any], values: int | Sequence[int]) -> NDArray[np.bool_]:
    """Voxels that have the value, or one of the values; ``numpy.isin`` takes many times as long.

    Args:
        labels: label map.
        values: one value, or at least one.
    """
    first, *others = [values] if isinstance(values, int) else values
    found: NDArray[np.bool_] = labels == first
    for value in others:
        found |= labels == value
    return found


def score_masks(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: Sequence[float],
    *,
    tolerance: float = 2.0,
    empty: EmptyPolicy = "nan",
) -> tuple[float, float, float]:
    """Dice, HD95 (mm) and surface Dice of one binary mask.

    Surfaces are the mask's voxels with a background voxel as a face neighbour (outside the image counts as background),
    distances run between voxel centres, as in MONAI, here in float64. For empty masks see `EMPTY_RULES`.

    Args:
        prediction: mask H W [D].
        reference: mask of the same shape.
        spacing: distance of neighbouring voxels along each axis, mm.
        tolerance: distance at which surfaces count as the same, mm.
        empty: rule for two empty masks.

    Raises:
        ValueError: if shapes differ, the tolerance is negative or the rule unknown.
    """
    if prediction.shape != reference.shape or len(spacing) != prediction.ndim:
        found = f"{prediction.shape}, {reference.shape} and {len(spacing)} spacings"
        raise ValueError(f"Masks and spacing must have the same axes, got {found}.")
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}; give a distance in mm from 0.")
    if empty not in ("nan", "zero", "one"):
        raise ValueError(f"empty is {empty!r}; choose 'nan', 'zero' or 'one'.")
    diagonal = math.hypot(*(side * step for side, step in zip(reference.shape, spacing, strict=True)))
    in_prediction, in_reference = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    if not in_reference and not in_prediction:
        return {"nan": (math.nan,) * 3, "zero": (0.0, diagonal, 0.0), "one": (1.0, 0.0, 1.0)}[empty]
    if not in_reference:
        return 0.0, math.nan, 0.0
    if not in_prediction:
        return 0.0, diagonal, 0.0
    box = bounding_box(prediction | reference)
    prediction, reference = prediction[box], reference[box]
    dice = 2.0 * int(np.count_nonzero(prediction & reference)) / (in_prediction + in_reference)
    surfaces = [np.argwhere(inner_boundary(mask)) * np.asarray(spacing) for mask in (prediction, reference)]
    # a tree of surface points: ten times faster for lesions spread over a brain than distance maps of their joint box
    to_reference, _ = cKDTree(surfaces[1]).query(surfaces[0])
    to_prediction, _ = cKDTree(surfaces[0]).query(surfaces[1])
    hd95 = max(float(np.quantile(to_reference, 0.95)), float(np.quantile(to_prediction, 0.95)))
    near = np.count_nonzero(to_reference <= tolerance) + np.count_nonzero(to_prediction <= tolerance)
    return dice, hd95, near / (to_reference.size + to_prediction.size)


def score_case(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    spacing: Sequence[float],
    organs: Mapping[str, tuple[int | Sequence[int], int | Sequence[int]]],
    *,
    dataset: str = "",
    case: str = "",
    group: str = "",
    tolerance: float = 2.0,
    empty: EmptyPolicy = "nan",
) -> list[OrganScore]:
    """Scores of every organ of a case.

    Args:
        prediction: label map H W [D] in the network's label values.
        reference: label map of the same shape in the data set's label values.
        spacing: voxel spacing, mm.
        organs: name to (label value or values in the prediction, label value or values in the reference).
        dataset: data set of the case.
        case: id of the case.
        group: patient.
        tolerance: of surface Dice, mm.
        empty: rule for organs that neither map has.

    Returns:
        One score per organ, in the order of `organs`.
    """
    millilitres = math.prod(spacing) / 1000.0
    scores = []
    for organ, (ours, theirs) in organs.items():
        in_prediction, in_reference = has_value(prediction, ours), has_value(reference, theirs)
        dice, hd95, surface_dice = score_masks(in_prediction, in_reference, spacing, tolerance=tolerance, empty=empty)
        sizes = int(np.count_nonzero(in_reference)), int(np.count_nonzero(in_prediction))
        scores.append(
            OrganScore(
                dataset=dataset,
                case=case,
                group=group or case,
                organ=organ,
                dice=dice,
                hd95=hd95,
                surface_dice=surface_dice,
                boundary_difference=boundary_difference(in_prediction, in_reference),
                reference_ml=sizes[0] * millilitres,
                prediction_ml=sizes[1] * millilitres,
                empty=sizes[0] == 0,
                missed=sizes[0] > 0 and sizes[1] == 0,
            )
        )
    return scores
