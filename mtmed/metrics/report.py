"""Scores as files and as a table: a row per case and organ, means with their intervals, and the rules behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.files import require_writable_folder
from mtmed.metrics.names import ORGAN_METRICS, ORGAN_TABLE
from mtmed.metrics.scores import EMPTY_RULES, OrganScore
from mtmed.metrics.tables import (
    INTERVAL,
    NOTHING_MISSING,
    aligned_table,
    metric_means,
    shown_mean,
    write_json,
    write_rows,
)

__all__ = ["SURFACES", "summarise", "summary_table", "write_report"]

SURFACES = "voxels with a face neighbour outside the mask, distances between voxel centres, mm"
"""What surface distances are measured between, for the protocol of a report."""

_COUNTS = {"cases": "n", "empty": "n_empty", "both empty": "n_both_empty", "missed": "n_missed"}


def _means(scores: Sequence[OrganScore], metrics: Sequence[str], seed: int) -> dict[str, Any]:
    found = metric_means([asdict(one) for one in scores], metrics, seed=seed)
    found["n"] = len(scores)
    found["n_empty"] = sum(one.empty for one in scores)
    found["n_both_empty"] = sum(one.empty and one.prediction_ml == 0 for one in scores)
    found["n_missed"] = sum(one.missed for one in scores)
    found["n_false_positive"] = sum(one.empty and one.prediction_ml > 0 for one in scores)
    found["false_positive_ml"] = sum(one.prediction_ml for one in scores if one.empty)
    return found


def summarise(
    scores: Sequence[OrganScore],
    *,
    metrics: Sequence[str] = ORGAN_TABLE,
    protocol: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Means with 95 % intervals per organ and overall, counts of odd cases, and how it was measured.

    The overall mean is over the organs' means per case: each case counts once per organ that it is scored for, and
    patients are resampled as a whole.

    Args:
        scores: of all cases and organs.
        metrics: which scores to average, see `ORGAN_METRICS`.
        protocol: what else must be known to repeat the measurement (fold, checkpoint hash, tolerance, policy ...).
        seed: seed of the bootstrap.
    """
    organs = list(dict.fromkeys(one.organ for one in scores))
    return {
        "organs": {organ: _means([one for one in scores if one.organ == organ], metrics, seed) for organ in organs},
        "overall": _means(scores, metrics, seed),
        "cases": len({(one.dataset, one.case) for one in scores}),
        "patients": len({(one.dataset, one.group) for one in scores}),
        "protocol": {
            "interval": INTERVAL,
            "surfaces": SURFACES,
            "empty_masks": EMPTY_RULES,
            "missing": NOTHING_MISSING,
            **(protocol or {}),
        },
    }


def write_report(
    scores: Sequence[OrganScore],
    output_dir: str | Path,
    *,
    metrics: Sequence[str] = ORGAN_TABLE,
    protocol: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write ``scores.csv`` (a row per case and organ) and ``summary.json`` (see `summarise`).

    Args:
        scores: of all cases and organs.
        output_dir: folder for both files.
        metrics: which scores to average in the summary; the table of scores has all.
        protocol: see `summarise`.
        seed: seed of the bootstrap.

    Returns:
        The summary.

    Raises:
        InputError: if there are no scores or the folder cannot be written.
    """
    if not scores:
        raise InputError(output_dir, "there is nothing to report: no case was scored", "check the fold and the labels")
    folder = require_writable_folder(output_dir)
    summary = summarise(scores, metrics=metrics, protocol=protocol, seed=seed)
    write_rows(folder / "scores.csv", [asdict(one) for one in scores])
    write_json(folder / "summary.json", summary)
    return summary


def summary_table(summary: Mapping[str, Any]) -> str:
    """The summary as a table in plain text: mean (95 % interval) per organ, and how many cases stand behind it.

    ``empty`` counts the cases whose reference lacks the organ, ``both empty`` those of them in which it is not
    predicted either, ``missed`` those in which it is there and not predicted.
    """
    metrics = [metric for metric in summary["overall"] if metric in ORGAN_METRICS]
    lines = [["organ", *(ORGAN_METRICS[metric] for metric in metrics), *_COUNTS]]
    rows = [*summary["organs"].items()]
    if len(rows) > 1:
        rows.append(("all", summary["overall"]))
    for organ, means in rows:
        cells = [shown_mean(means[metric], digits=1 if metric == "hd95" else 3) for metric in metrics]
        lines.append([organ, *cells, *(str(means[key]) for key in _COUNTS.values())])
    return aligned_table(lines)
