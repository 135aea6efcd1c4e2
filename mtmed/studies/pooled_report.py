"""Numbers that an evaluation makes of all its cases together, such as an area under a curve, by arm."""

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtmed.errors import InputError
from mtmed.metrics.tables import finite_or_none, mean_of_defined
from mtmed.studies.file_values import is_number
from mtmed.studies.numbers import number_text
from mtmed.studies.results import SUMMARY_NAME, Result

__all__ = ["POOLED_NAMES", "POOLED_RULE", "PooledRow", "pooled_rows", "pooled_table", "pooled_values"]

POOLED_RULE = (
    "each run's evaluation makes the value of all its cases together, and its 95 % interval over patients; shown are"
    " the means over the runs of the value and of both ends of the interval, and the standard deviation of the value"
    " over the runs. The interval is therefore that of a typical run. No test"
)
"""How the numbers are made; goes into every report that has them."""

POOLED_NAMES = {"image_auc": "image AUC"}
"""How entries are called in tables."""


@dataclass(frozen=True)
class PooledRow:
    """One entry of the summaries of an arm's runs, for one organ and label fraction; NaN where there is no number.

    Attributes:
        entry: name of the entry.
        organ: name of the organ.
        fraction: share of the labels, %.
        arm: name of the arm.
        value: mean over the runs.
        low: mean over the runs of the lower end of the interval.
        high: of the upper end.
        sd: standard deviation (n - 1) of the value over the runs.
        patients: number of patients that a run's interval is of, the least of its runs; 0 without any.
        runs: number of runs with a value.
        planned: number of runs of the arm at this fraction.
    """

    entry: str
    organ: str
    fraction: float
    arm: str
    value: float
    low: float
    high: float
    sd: float
    patients: int
    runs: int
    planned: int


def pooled_rows(
    results: Sequence[Result], entries: Sequence[str], organs: Sequence[str] | None = None
) -> list[PooledRow]:
    """Read entries of ``summary.json`` of all finished runs: per organ ``{"value", "low", "high", ...}``.

    Args:
        results: all runs that the study plans.
        entries: names of the entries.
        organs: organs to report; None for all.

    Raises:
        InputError: if runs have scores and none of them has an entry.
    """
    scored = {result: _summary(result) for result in results if result.scores is not None}
    rows = []
    for entry in entries:
        found = {run: summary[entry] for run, summary in scored.items() if _is_pooled(summary.get(entry))}
        if scored and not found:
            known = sorted({key for summary in scored.values() for key in summary if _is_pooled(summary[key])})
            problem = f"asks for {entry}, which no run's {SUMMARY_NAME} has by organ"
            raise InputError("score::pooled", problem, f"choose from {', '.join(known) or '(there are none)'}")
        names = dict.fromkeys(name for one in found.values() for name in one if not organs or name in organs)
        cells = dict.fromkeys((result.fraction, result.arm) for result in results)
        for organ, (fraction, arm) in itertools.product(names, sorted(cells, key=lambda cell: cell[0])):
            own = [result for result in results if (result.fraction, result.arm) == (fraction, arm)]
            stated = [found[run][organ] for run in own if organ in found.get(run, {})]
            rows.append(_row(entry, organ, fraction, arm, stated, len(own)))
    return rows


def _row(
    entry: str, organ: str, fraction: float, arm: str, stated: Sequence[Mapping[str, Any]], planned: int
) -> PooledRow:
    numbers = {
        key: [float(one[key]) if is_number(one.get(key)) else math.nan for one in stated]
        for key in ("value", "low", "high")
    }
    defined = [value for value in numbers["value"] if math.isfinite(value)]
    means = {key: mean_of_defined(values) for key, values in numbers.items()}
    sd = statistics.stdev(defined) if len(defined) > 1 else math.nan
    patients = min((int(one["n_patients"]) for one in stated if is_number(one.get("n_patients"))), default=0)
    return PooledRow(entry, organ, fraction, arm, **means, sd=sd, patients=patients, runs=len(defined), planned=planned)


def pooled_table(rows: Sequence[PooledRow]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the rows of one entry."""
    header = ["organ", "labels", "arm", "value (95 % interval)", "± over runs", "patients", "runs"]
    return header, [
        [
            row.organ,
            f"{row.fraction:g} %",
            row.arm,
            _interval(row),
            number_text(row.sd, 3),
            str(row.patients),
            f"{row.runs} of {row.planned}",
        ]
        for row in rows
    ]


def pooled_values(rows: Sequence[PooledRow]) -> list[dict[str, Any]]:
    """The rows as plain values; None where there is no number."""
    return [
        {key: finite_or_none(value) if isinstance(value, float) else value for key, value in asdict(row).items()}
        for row in rows
    ]


def _interval(row: PooledRow) -> str:
    if not row.runs:
        return "-"
    ends = f"({number_text(row.low, 3)} to {number_text(row.high, 3)})" if math.isfinite(row.low) else "(no interval)"
    return f"{number_text(row.value, 3)} {ends}"


def _is_pooled(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry) and all(isinstance(e, dict) and "value" in e for e in entry.values())


def _summary(result: Result) -> dict[str, Any]:
    try:
        content = (
            json.loads((result.evaluation / SUMMARY_NAME).read_text(encoding="utf-8")) if result.evaluation else {}
        )
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
