"""Scores of scans that are segmented slice by slice: Dice per slice and per scan, errors, the competition's score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtmed.metrics.scores import EmptyPolicy, has_value
from mtmed.metrics.slice_dice import dice_of_sizes, dice_of_slices, slice_sizes
from mtmed.metrics.tables import mean_of_defined
from mtmed.metrics.uw_madison import competition_dice, competition_score, normalised_hausdorff

__all__ = ["SLICE_RULES", "OrganSlice", "SliceScore", "score_slices"]

SLICE_RULES: dict[str, str] = {
    "slice_dice": "2D, of each slice and organ; only slices whose reference has the organ under 'nan', else all slices",
    "positive_slice_dice": "2D, of each slice whose reference has the organ, whatever the rule",
    "slice_dice_empty_one": "2D, of each slice, whatever the rule: both empty 1, only one of them empty 0",
    "highest_probability": "of the organ in a slice, on the grid of the image's file; what image_auc ranks slices by",
    "dice": "3D, of each scan and organ",
    "slice, both empty": "'nan': left out; 'zero': 0; 'one': 1; both in slice_dice and in competition_dice",
    "slice, reference empty": "slice_dice: left out under 'nan', else 0; competition_dice: 0",
    "slice, prediction empty": "0",
    "scan, both empty": "'nan': left out; 'zero': Dice 0, Hausdorff distance 1; 'one': Dice 1, Hausdorff distance 0",
    "scan, reference empty": "Dice 0; left out of Hausdorff distance and competition score, as the organisers do",
    "scan, prediction empty": "Dice 0, Hausdorff distance 1",
    "hausdorff": "largest distance of a voxel of either mask to the other mask, in 3D; coordinates are divided by the"
    " number of voxels along their axis (columns, rows, slices), the distance by the root of 3: 0 to 1",
    "competition_score": "0.4 mean competition_dice + 0.6 (1 - hausdorff)",
    "false_positive_to_false_negative": "voxels predicted outside the reference, divided by voxels of the reference"
    " that are not predicted; undefined without the latter",
    "false_positive_share": "voxels predicted outside the reference, divided by all wrong voxels: 0.5 is balanced;"
    " undefined without errors",
}
"""How the scores are made, and what is scored where a mask is empty; goes into every report."""


@dataclass(frozen=True)
class OrganSlice:
    """One organ in one slice; NaN where there is no score.

    Attributes:
        dataset: data set of the case.
        case: id of the case, a scan.
        group: patient.
        organ: name of the organ.
        slice: number of the slice in the order of the file, from 1.
        dice: see `slice_dice`.
        competition_dice: see `competition_dice`.
        reference_voxels: size of the reference.
        prediction_voxels: size of the prediction.
        false_positive_voxels: predicted outside the reference.
        false_negative_voxels: of the reference, not predicted.
        highest_probability: of the organ in the slice; NaN where the prediction came without probabilities.
    """

    dataset: str
    case: str
    group: str
    organ: str
    slice: int
    dice: float
    competition_dice: float
    reference_voxels: int
    prediction_voxels: int
    false_positive_voxels: int
    false_negative_voxels: int
    highest_probability: float


@dataclass(frozen=True)
class SliceScore:
    """One organ in one scan; NaN where there is no score. See `SLICE_RULES`.

    Attributes:
        dataset: data set of the case.
        case: id of the case, a scan.
        group: patient.
        organ: name of the organ.
        slice_dice: mean of `slice_dice` over slices.
        positive_slice_dice: mean over the slices whose reference has the organ, whatever the rule for the others.
        slice_dice_empty_one: mean over all slices, whatever the rule; two empty masks are 1, a false positive is 0.
        dice: 3D Dice of the scan.
        hausdorff: see `normalised_hausdorff`.
        competition_dice: mean of `competition_dice` over slices.
        competition_score: see `competition_score`.
        false_positive_voxels: predicted outside the reference.
        false_negative_voxels: of the reference, not predicted.
        false_positive_to_false_negative: their ratio.
        false_positive_share: share of the former in both.
        slices: number of slices.
        empty_slices: slices whose reference lacks the organ.
        false_positive_slices: those of them in which it is predicted.
        missed_slices: slices whose reference has the organ and in which nothing of it is predicted.
        empty: no slice's reference has the organ.
    """

    dataset: str
    case: str
    group: str
    organ: str
    slice_dice: float
    positive_slice_dice: float
    slice_dice_empty_one: float
    dice: float
    hausdorff: float
    competition_dice: float
    competition_score: float
    false_positive_voxels: int
    false_negative_voxels: int
    false_positive_to_false_negative: float
    false_positive_share: float
    slices: int
    empty_slices: int
    false_positive_slices: int
    missed_slices: int
    empty: bool


def score_slices(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    organs: Mapping[str, tuple[int | Sequence[int], int | Sequence[int]]],
    *,
    dataset: str = "",
    case: str = "",
    group: str = "",
    empty: EmptyPolicy = "nan",
    highest: Mapping[str, Sequence[float]] | None = None,
) -> tuple[list[SliceScore], list[OrganSlice]]:
    """Scores of every organ of a scan, and of each of its slices.

    Args:
        prediction: label map D H W, slices first, in the network's values.
        reference: label map of the same shape in the data set's values.
        organs: name to (value or values in the prediction, value or values in the reference); a voxel may belong to
            several organs.
        dataset: data set of the case.
        case: id of the case.
        group: patient.
        empty: rule for empty masks, see `SLICE_RULES`.
        highest: highest probability of each organ in each slice, by the name of the organ; None if it is not known.

    Returns:
        One score per organ, and one row per organ and slice.

    Raises:
        ValueError: if shapes differ or the rule is unknown.
    """
    highest = highest or {}
    scores: list[SliceScore] = []
    rows: list[OrganSlice] = []
    for organ, (ours, theirs) in organs.items():
        masks = has_value(prediction, ours), has_value(reference, theirs)
        sizes = slice_sizes(*masks)
        both, in_reference, in_prediction = sizes
        extra, missed = in_prediction - both, in_reference - both
        per_slice, ranked = dice_of_slices(*sizes, empty=empty), competition_dice(*masks, empty=empty)
        likely = highest.get(organ, [math.nan] * len(both))
        rows += [
            OrganSlice(
                dataset=dataset,
                case=case,
                group=group or case,
                organ=organ,
                slice=index + 1,
                dice=float(per_slice[index]),
                competition_dice=float(ranked[index]),
                reference_voxels=int(in_reference[index]),
                prediction_voxels=int(in_prediction[index]),
                false_positive_voxels=int(extra[index]),
                false_negative_voxels=int(missed[index]),
                highest_probability=float(likely[index]),
            )
            for index in range(len(both))
        ]
        hausdorff = normalised_hausdorff(*masks, empty=empty)
        mean_ranked = mean_of_defined(ranked)
        false_positives, false_negatives = int(extra.sum()), int(missed.sum())
        wrong = false_positives + false_negatives
        scores.append(
            SliceScore(
                dataset=dataset,
                case=case,
                group=group or case,
                organ=organ,
                slice_dice=mean_of_defined(per_slice),
                positive_slice_dice=mean_of_defined(dice_of_slices(*sizes, empty="nan")),
                slice_dice_empty_one=mean_of_defined(dice_of_slices(*sizes, empty="one")),
                dice=float(dice_of_sizes(both.sum(), in_reference.sum(), in_prediction.sum(), empty=empty)),
                hausdorff=hausdorff,
                competition_dice=mean_ranked,
                competition_score=competition_score(mean_ranked, hausdorff),
                false_positive_voxels=false_positives,
                false_negative_voxels=false_negatives,
                false_positive_to_false_negative=false_positives / false_negatives if false_negatives else math.nan,
                false_positive_share=false_positives / wrong if wrong else math.nan,
                slices=len(both),
                empty_slices=int(np.count_nonzero(in_reference == 0)),
                false_positive_slices=int(np.count_nonzero((in_reference == 0) & (in_prediction > 0))),
                missed_slices=int(np.count_nonzero((in_reference > 0) & (in_prediction == 0))),
                empty=not in_reference.any(),
            )
        )
    return scores, rows
