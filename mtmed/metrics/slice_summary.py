"""Scores of slices as means: over all slices together, as papers and competition count, and over scans."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtmed.metrics.image_auc import image_auc
from mtmed.metrics.names import SLICE_METRICS
from mtmed.metrics.pooled import PatientSums, patient_numbers, patient_sums, pooled_value
from mtmed.metrics.scores import EmptyPolicy
from mtmed.metrics.slice_dice import dice_of_slices
from mtmed.metrics.slice_scores import SLICE_RULES, OrganSlice, SliceScore
from mtmed.metrics.tables import INTERVAL, NOTHING_MISSING, aligned_table, finite_or_none, metric_means, shown_mean
from mtmed.metrics.uw_madison import competition_score

__all__ = ["POOLED", "slice_table", "summarise_slices"]

POOLED: dict[str, str] = {
    "slice_dice": "mean over the slices of all scans together; 'overall' is the plain mean of the organs; so are"
    " positive_slice_dice and slice_dice_empty_one",
    "competition_score": "0.4 mean over all slices + 0.6 (1 - mean over all scans); 'overall' over all organs together,"
    " as the competition",
    "false_positive_to_false_negative": "sum of the voxels of all scans, divided by that sum",
    "image_auc": "area under the ROC curve of the highest probability, over the slices of all scans together; a slice"
    " with the organ in its reference is positive; ties count one half; null where all slices or none are positive",
    "interval": "as of means over scans, with the sums of whole patients; a patient at 0 or 1 has the average number of"
    " slices; image_auc and false_positive_to_false_negative: expanded percentile bootstrap",
}
"""How the pooled values are made; 'organs' and 'overall' of the summary are means over scans."""

_SLICE_DICE = ("slice_dice", "positive_slice_dice", "slice_dice_empty_one")


def summarise_slices(
    scores: Sequence[SliceScore],
    slices: Sequence[OrganSlice],
    *,
    protocol: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Means with 95 % intervals over patients, counts, and how it was measured.

    Args:
        scores: a row per scan and organ.
        slices: a row per slice and organ of the same scans.
        protocol: what else must be known to repeat the measurement (part, checkpoint hash, empty policy ...).
        seed: seed of the bootstrap.

    Returns:
        ``organs`` and ``overall``: mean over scans of each of `SLICE_METRICS`. ``pooled``: both again, over slices, see
        `POOLED`. ``image_auc``: per organ ``{"value", "low", "high", "positives", "negatives", "n_patients"}``, see
        `mtmed.metrics.image_auc`. ``cases``, ``patients``, ``slices`` and ``protocol``.
    """
    organs = list(dict.fromkeys(one.organ for one in scores))
    of_organ = {organ: [one for one in scores if one.organ == organ] for organ in organs}
    return {
        "organs": {organ: _over_scans(own, seed) for organ, own in of_organ.items()},
        "overall": _over_scans(scores, seed),
        "pooled": {
            "organs": {
                organ: _pooled(own, [one for one in slices if one.organ == organ], seed)
                for organ, own in of_organ.items()
            },
            "overall": _pooled(scores, slices, seed),
        },
        "image_auc": {organ: _image_auc([one for one in slices if one.organ == organ], seed) for organ in organs},
        "cases": len({(one.dataset, one.case) for one in scores}),
        "patients": len({(one.dataset, one.group) for one in scores}),
        "slices": len({(one.dataset, one.case, one.slice) for one in slices}),
        "protocol": {
            "interval": INTERVAL,
            "scores": SLICE_RULES,
            "pooled": POOLED,
            "missing": NOTHING_MISSING,
            **(protocol or {}),
        },
    }


def slice_table(summary: Mapping[str, Any]) -> str:
    """The summary as a table in plain text: pooled values, and 3D Dice and Hausdorff distance over scans."""
    pooled = (*_SLICE_DICE, "competition_score", "false_positive_to_false_negative")
    over_scans = ("dice", "hausdorff")
    names = [SLICE_METRICS[metric] for metric in (*pooled, *over_scans)]
    lines = [["organ", *names, "image AUC", "slices", "scans", "empty", "both empty", "missed"]]
    rows = [(organ, means, summary["pooled"]["organs"][organ]) for organ, means in summary["organs"].items()]
    if len(rows) > 1:
        rows.append(("all", summary["overall"], summary["pooled"]["overall"]))
    for organ, means, together in rows:
        cells = [shown_mean(together[metric]) for metric in pooled] + [shown_mean(means[one]) for one in over_scans]
        area = summary["image_auc"].get(organ, {"value": None})
        cells.append(shown_mean({**area, "mean": area["value"]}))
        counts = (together["slice_dice"]["n"], *(means[key] for key in ("n", "n_empty", "n_both_empty", "n_missed")))
        lines.append([organ, *cells, *map(str, counts)])
    return aligned_table(lines)


def _over_scans(scores: Sequence[SliceScore], seed: int) -> dict[str, Any]:
    found = metric_means([asdict(one) for one in scores], SLICE_METRICS, seed=seed)
    found["n"] = len(scores)
    found["n_empty"] = sum(one.empty for one in scores)
    found["n_both_empty"] = sum(one.empty and not one.false_positive_voxels for one in scores)
    found["n_missed"] = sum(not one.empty and one.dice == 0 and not one.false_positive_voxels for one in scores)
    for name in ("slices", "empty_slices", "false_positive_slices", "missed_slices"):
        found[name] = sum(getattr(one, name) for one in scores)
    return found


def _pooled(scores: Sequence[SliceScore], slices: Sequence[OrganSlice], seed: int) -> dict[str, Any]:
    """Values over all slices and scans of one organ, or of all."""
    patients = patient_numbers(scores)
    by_organ = [[one for one in slices if one.organ == organ] for organ in dict.fromkeys(one.organ for one in slices)]

    def pooled_dice(values: Callable[[Sequence[OrganSlice]], Sequence[float]]) -> dict[str, Any]:
        return _mean_of_organs([patient_sums(own, values(own), patients) for own in by_organ], seed)

    ranked = patient_sums(slices, [one.competition_dice for one in slices], patients)
    apart = patient_sums(scores, [one.hausdorff for one in scores], patients)
    false_positives = patient_sums(scores, [one.false_positive_voxels for one in scores], patients).totals
    false_negatives = patient_sums(scores, [one.false_negative_voxels for one in scores], patients).totals
    wrong = PatientSums(false_positives, false_negatives)

    return {
        "slice_dice": pooled_dice(lambda own: [one.dice for one in own]),
        "positive_slice_dice": pooled_dice(lambda own: _dice(own, "nan")),
        "slice_dice_empty_one": pooled_dice(lambda own: _dice(own, "one")),
        "competition_dice": {
            **pooled_value(np.asarray, [ranked], bounds=[(0, 1)], seed=seed),
            "n": int(ranked.counts.sum()),
        },
        "competition_score": {
            **pooled_value(competition_score, [ranked, apart], bounds=[(0, 1), (1, 0)], seed=seed),
            "n": int(apart.counts.sum()),
        },
        "false_positive_to_false_negative": {**pooled_value(np.asarray, [wrong], seed=seed), "n": len(scores)},
        "false_positive_voxels": int(false_positives.sum()),
        "false_negative_voxels": int(false_negatives.sum()),
    }


def _dice(slices: Sequence[OrganSlice], empty: EmptyPolicy) -> list[float]:
    """Dice of each slice under a rule of one's own."""
    missed, in_reference, in_prediction = (
        np.array([getattr(one, name) for one in slices], np.int64)
        for name in ("false_negative_voxels", "reference_voxels", "prediction_voxels")
    )
    dice: list[float] = dice_of_slices(in_reference - missed, in_reference, in_prediction, empty=empty).tolist()
    return dice


def _mean_of_organs(sums: Sequence[PatientSums], seed: int) -> dict[str, Any]:
    """Plain mean of the means of the organs that have a value."""
    known = [one for one in sums if one.counts.any()]
    if not known:
        return {"mean": None, "low": None, "high": None, "n_patients": 0, "n": 0}

    def mean(*of_organs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.mean(of_organs, axis=0))

    return {
        **pooled_value(mean, known, bounds=[(0, 1)] * len(known), seed=seed),
        "n": int(sum(one.counts.sum() for one in known)),
    }


def _image_auc(slices: Sequence[OrganSlice], seed: int) -> dict[str, Any]:
    """Of one organ."""
    found = image_auc(
        [one.highest_probability for one in slices],
        [one.reference_voxels > 0 for one in slices],
        [f"{one.dataset}/{one.group}" for one in slices],
        seed=seed,
    )
    return {
        "value": finite_or_none(found.value),
        "low": finite_or_none(found.low),
        "high": finite_or_none(found.high),
        "positives": found.positives,
        "negatives": found.negatives,
        "n_patients": found.patients,
    }
