"""What every report is made of: means with their intervals, rows in a file, a table in plain text."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmed.files import atomic_file
from mtmed.metrics.interval import mean_interval
from mtmed.metrics.names import METRIC_BOUNDS

__all__ = [
    "INTERVAL",
    "NOTHING_MISSING",
    "aligned_table",
    "finite_or_none",
    "mean_of_defined",
    "metric_means",
    "shown_mean",
    "write_json",
    "write_rows",
]

INTERVAL = (
    "95 %, patients are drawn as a whole, 9999 resamples; scores from 0 to 1: Bayesian bootstrap with half a patient "
    "at 0 and half a patient at 1; all others: expanded percentile bootstrap"
)
"""How the intervals of `metric_means` are made, for the protocol of a report."""

NOTHING_MISSING = "none: there is no report unless every case of the part has been predicted and scored"
"""What a report says of cases without a prediction."""


def finite_or_none(value: float) -> float | None:
    """The value, or None in place of NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def mean_of_defined(values: Iterable[float]) -> float:
    """Mean of the finite values, NaN if there is none."""
    defined = [value for value in values if math.isfinite(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def metric_means(rows: Sequence[Mapping[str, Any]], metrics: Iterable[str], *, seed: int = 0) -> dict[str, Any]:
    """Mean of each metric over rows, with its 95 % interval over patients.

    Args:
        rows: scores by name, with ``dataset`` and ``group`` (the patient).
        metrics: which scores to average; those that are not finite are left out and counted.
        seed: seed of the bootstrap.

    Returns:
        Per metric ``{"mean", "low", "high", "n", "n_patients", "n_undefined"}``; None where there is no value.
    """
    patients = [f"{row['dataset']}/{row['group']}" for row in rows]
    means = {}
    for metric in metrics:
        interval = mean_interval([row[metric] for row in rows], patients, bounds=METRIC_BOUNDS.get(metric), seed=seed)
        means[metric] = {
            "mean": finite_or_none(interval.mean),
            "low": finite_or_none(interval.low),
            "high": finite_or_none(interval.high),
            "n": interval.n,
            "n_patients": interval.groups,
            "n_undefined": len(rows) - interval.n,
        }
    return means


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV with a header; a score that is undefined (NaN) is an empty cell.

    Args:
        path: file to write.
        rows: at least one; all with the same keys in the same order.

    Raises:
        InputError: if the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        )
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a summary as JSON.

    Args:
        path: file to write.
        content: finite numbers only; what JSON does not know is written as text.

    Raises:
        InputError: if the file cannot be written.
        ValueError: if a number is not finite.
    """
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=4, allow_nan=False, default=str) + "\n").encode())


def shown_mean(mean: Mapping[str, Any], *, digits: int = 3) -> str:
    """A mean of `metric_means` as text, for example ``0.533 (0.412 to 0.640)``; ``-`` if there is none.

    Where some values are undefined, it says of how many it is the mean: ``0.533 (0.412 to 0.640), n 17``.
    """
    if mean["mean"] is None:
        return "-"
    number = f", n {mean['n']}" if mean.get("n_undefined") else ""
    if mean["low"] is None:
        return f"{mean['mean']:.{digits}f} (no interval){number}"
    return f"{mean['mean']:.{digits}f} ({mean['low']:.{digits}f} to {mean['high']:.{digits}f}){number}"


def aligned_table(lines: Sequence[Sequence[str]]) -> str:
    """Cells as plain text in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
