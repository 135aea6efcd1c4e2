"""Scores as files and as a table: a row per case and organ, means with their intervals, and the rules behind them."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.metrics.interval import mean_interval
from mtmed.metrics.scores import EMPTY_RULES, OrganScore
from mtmed.transforms.writing import atomic_file, require_writable_folder

__all__ = ["METRICS", "summarise", "summary_table", "write_report"]

METRICS: dict[str, str] = {"dice": "Dice", "hd95": "HD95 (mm)", "surface_dice": "surface Dice"}
"""Fields of `OrganScore` that are averaged, and how they are called."""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _means(scores: Sequence[OrganScore], seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in METRICS:
        interval = mean_interval(
            [getattr(one, metric) for one in scores], [f"{s.dataset}/{s.group}" for s in scores], seed=seed
        )
        found[metric] = {
            "mean": _finite(interval.mean),
            "low": _finite(interval.low),
            "high": _finite(interval.high),
            "n": interval.n,
            "n_patients": interval.groups,
        }
    found["n"] = len(scores)
    found["n_empty"] = sum(one.empty for one in scores)
    found["n_missed"] = sum(one.missed for one in scores)
    found["n_false_positive"] = sum(one.empty and one.prediction_ml > 0 for one in scores)
    found["false_positive_ml"] = sum(one.prediction_ml for one in scores if one.empty)
    return found


def summarise(
    scores: Sequence[OrganScore], *, protocol: Mapping[str, Any] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Means with 95 % intervals per organ and overall, counts of odd cases, and how it was measured.

    The overall mean is over the organs' means per case: each case counts once per organ that it is scored for, and
    patients are resampled as a whole.

    Args:
        scores: of all cases and organs.
        protocol: what else must be known to repeat the measurement (fold, checkpoint hash, tolerance, policy ...).
        seed: seed of the bootstrap.
    """
    organs = list(dict.fromkeys(one.organ for one in scores))
    return {
        "organs": {organ: _means([one for one in scores if one.organ == organ], seed) for organ in organs},
        "overall": _means(scores, seed),
        "cases": len({(one.dataset, one.case) for one in scores}),
        "patients": len({(one.dataset, one.group) for one in scores}),
        "protocol": {
            "interval": "95 % expanded percentile bootstrap over patients, 9999 resamples",
            "surfaces": "voxels with a face neighbour outside the mask, distances between voxel centres, mm",
            "empty_masks": EMPTY_RULES,
            **(protocol or {}),
        },
    }


def write_report(
    scores: Sequence[OrganScore],
    output_dir: str | Path,
    *,
    protocol: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write ``scores.csv`` (a row per case and organ) and ``summary.json`` (see `summarise`).

    Args:
        scores: of all cases and organs.
        output_dir: folder for both files.
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
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(OrganScore)], lineterminator="\n")
    writer.writeheader()
    for one in scores:
        writer.writerow(
            {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(one).items()}
        )
    summary = summarise(scores, protocol=protocol, seed=seed)
    with atomic_file(folder / "scores.csv") as file:
        file.write(text.getvalue().encode())
    with atomic_file(folder / "summary.json") as file:
        file.write((json.dumps(summary, indent=4, allow_nan=False, default=str) + "\n").encode())
    return summary


def _cell(mean: Mapping[str, Any], digits: int) -> str:
    if mean["mean"] is None:
        return "-"
    if mean["low"] is None:
        return f"{mean['mean']:.{digits}f} (no interval)"
    return f"{mean['mean']:.{digits}f} ({mean['low']:.{digits}f} to {mean['high']:.{digits}f})"


def summary_table(summary: Mapping[str, Any]) -> str:
    """The summary as a table in plain text: mean (95 % interval) per organ, and how many cases stand behind it."""
    lines = [["organ", *METRICS.values(), "cases", "empty", "missed"]]
    rows = [*summary["organs"].items()]
    if len(rows) > 1:
        rows.append(("all", summary["overall"]))
    for organ, means in rows:
        cells = [_cell(means[metric], 1 if metric == "hd95" else 3) for metric in METRICS]
        lines.append([organ, *cells, *(str(means[key]) for key in ("n", "n_empty", "n_missed"))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
