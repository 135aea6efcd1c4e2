"""Scores of many small objects, such as lesions: how many are found, how many are invented, and how much volume."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from mtmed.metrics.scores import score_masks

__all__ = ["LESION_RULES", "LesionScore", "Neighbours", "score_lesions", "volume_correlation"]

Neighbours = Literal[6, 18, 26]

LESION_RULES: dict[str, str] = {
    "neither has a lesion": "nothing is scored but volumes and numbers of lesions, which are 0",
    "reference has no lesion": "Dice and F1 are 0; voxel and lesion-wise true positive rate, volume difference and "
    "HD95 are left out",
    "prediction has no lesion": "Dice, F1, voxel and lesion-wise true positive rate are 0, HD95 is the image's "
    "diagonal; positive predictive value and lesion-wise false positive rate are left out",
    "volume correlation": "left out for fewer than two cases, or if all volumes of one side are equal",
    "ISBI score": "means of what is defined; left out if one of its five terms is",
}
"""What is scored where there is nothing to divide by; goes into every report of lesions."""


@dataclass(frozen=True)
class LesionScore:
    """Scores of one prediction P against one reference R; NaN where there is no score (see `LESION_RULES`).

    Attributes:
        dice: 2 |P and R| / (|P| + |R|).
        lesion_wise_f1: 2 a b / (a + b) of a = `lesion_wise_true_positive_rate` and
            b = 1 - `lesion_wise_false_positive_rate`.
        lesion_wise_true_positive_rate: LTPR, detected reference lesions / reference lesions.
        lesion_wise_false_positive_rate: LFPR, false predicted lesions / predicted lesions.
        voxel_true_positive_rate: |P and R| / |R|, sensitivity.
        positive_predictive_value: |P and R| / |P|, precision.
        false_positive_ml: volume of P without R, ml.
        hd95: see `mtmed.metrics.score_masks`, mm.
        volume_difference: ||P| - |R|| / |R|.
        reference_ml: volume of R, ml.
        prediction_ml: volume of P, ml.
        reference_lesions: number of lesions of R.
        detected_lesions: lesions of R that share a voxel with P.
        predicted_lesions: number of lesions of P.
        false_lesions: lesions of P that share no voxel with R.
    """

    dice: float
    lesion_wise_f1: float
    lesion_wise_true_positive_rate: float
    lesion_wise_false_positive_rate: float
    voxel_true_positive_rate: float
    positive_predictive_value: float
    false_positive_ml: float
    hd95: float
    volume_difference: float
    reference_ml: float
    prediction_ml: float
    reference_lesions: int
    detected_lesions: int
    predicted_lesions: int
    false_lesions: int


def score_lesions(
    prediction: NDArray[Any], reference: NDArray[Any], spacing: Sequence[float], *, neighbours: Neighbours = 26
) -> LesionScore:
    """Score a mask of lesions by voxels and by lesions.

    A lesion is a connected component. A lesion of the one mask counts as found if it shares at least one voxel with the
    other mask, whatever their sizes; the definitions are those of Carass et al. 2017, "Longitudinal multiple sclerosis
    lesion segmentation: resource and challenge". F1 is the harmonic mean of the rate of reference lesions found and the
    rate of predicted lesions that are real.

    Args:
        prediction: mask H W [D].
        reference: mask of the same shape.
        spacing: distance of neighbouring voxels along each axis, mm.
        neighbours: of a voxel in 3D: 26 with edges and corners, 18 with edges, 6 with faces only. In 2D these are 8, 8
            and 4.

    Raises:
        ValueError: if shapes differ or the neighbourhood is unknown.
    """
    if neighbours not in (6, 18, 26):
        raise ValueError(f"neighbours is {neighbours!r}; choose 6, 18 or 26.")
    prediction, reference = np.asarray(prediction, bool), np.asarray(reference, bool)
    dice, hd95, _ = score_masks(prediction, reference, spacing)
    both = prediction & reference
    in_prediction, in_reference, in_both = (int(np.count_nonzero(mask)) for mask in (prediction, reference, both))
    structure = ndimage.generate_binary_structure(both.ndim, {6: 1, 18: 2, 26: 3}[neighbours])
    reference_lesions, detected = _count(reference, both, structure)
    predicted_lesions, real = _count(prediction, both, structure)
    millilitres = math.prod(spacing) / 1000.0
    return LesionScore(
        dice=dice,
        lesion_wise_f1=_f1(detected, reference_lesions, real, predicted_lesions),
        lesion_wise_true_positive_rate=_ratio(detected, reference_lesions),
        lesion_wise_false_positive_rate=_ratio(predicted_lesions - real, predicted_lesions),
        voxel_true_positive_rate=_ratio(in_both, in_reference),
        positive_predictive_value=_ratio(in_both, in_prediction),
        false_positive_ml=(in_prediction - in_both) * millilitres,
        hd95=hd95,
        volume_difference=_ratio(abs(in_prediction - in_reference), in_reference),
        reference_ml=in_reference * millilitres,
        prediction_ml=in_prediction * millilitres,
        reference_lesions=reference_lesions,
        detected_lesions=detected,
        predicted_lesions=predicted_lesions,
        false_lesions=predicted_lesions - real,
    )


def volume_correlation(predicted: Sequence[float], reference: Sequence[float]) -> float:
    """Pearson correlation of the lesion volumes of a cohort, one pair per case.

    Args:
        predicted: volume in each case.
        reference: volume in each case by one rater, in the same unit and order.

    Returns:
        -1 to 1; NaN for fewer than two cases or if all volumes of one side are equal.

    Raises:
        ValueError: if lengths differ.
    """
    if len(predicted) != len(reference):
        raise ValueError(f"There are {len(predicted)} and {len(reference)} volumes; give one pair per case.")
    if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(reference) == 0:
        return math.nan
    return float(stats.pearsonr(predicted, reference).statistic)


def _count(mask: NDArray[np.bool_], both: NDArray[np.bool_], structure: NDArray[np.bool_]) -> tuple[int, int]:
    """Number of lesions of a mask, and how many of them share a voxel with the other mask."""
    lesions, number = ndimage.label(mask, structure)
    return int(number), int(np.unique(lesions[both]).size)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _f1(detected: int, reference_lesions: int, real: int, predicted_lesions: int) -> float:
    if not reference_lesions and not predicted_lesions:
        return math.nan
    if not detected:
        return 0.0
    sensitivity, precision = detected / reference_lesions, real / predicted_lesions
    return 2 * sensitivity * precision / (sensitivity + precision)
