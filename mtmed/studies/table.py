"""The table of a study: arms x label fractions, and the paired comparisons between arms."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtmed.errors import InputError
from mtmed.metrics.interval import Interval, mean_interval
from mtmed.metrics.names import METRIC_BOUNDS
from mtmed.metrics.tables import finite_or_none, mean_of_defined
from mtmed.studies.comparison import Comparison, compare_arms
from mtmed.studies.doubled_cases import check_doubled_cases
from mtmed.studies.results import Result, Score, read_scores

__all__ = ["ALL_ORGANS", "RULES", "Row", "StudyTable", "study_table", "table_values"]

ALL_ORGANS = "all"
"""Name of the row over all organs, where there are several."""

RULES: dict[str, str] = {
    "mean": "of each patient over cases, organs, folds and seeds of all finished runs, then over patients;"
    " undefined values are left out",
    "interval": "95 %; visits, seeds and organs stay with their patient; means of scores from 0 to 1: Bayesian"
    " bootstrap over patients with half a patient at 0 and half a patient at 1; differences and all other means:"
    " expanded percentile bootstrap over patients",
    "difference": "of each patient over what both arms have a value for, the same case, organ, fold and seed;"
    " then the mean over patients",
    "runs missing": "a run of either arm has no scores yet; the numbers are of those that have",
    "p": "two-sided sign-flip test of the patients' differences; all flips up to 16 patients, 65 535 drawn beyond",
    "p (Holm)": "corrected for all comparisons of a metric in one table (arms and fractions); single organs count as"
    " one family, their mean as another; several metrics are not corrected for",
    "smallest p": "the least that so many patients can give: 2 / 2^n up to 16 patients, if no difference is 0, and"
    " 1 / 65 536 beyond; where it is above 0.05 after Holm, no result can be significant",
}
"""How the numbers are made; goes into every report."""


@dataclass(frozen=True)
class Row:
    """One arm at one label fraction, in one metric and organ.

    Attributes:
        metric: column of ``scores.csv``.
        organ: name of the organ, `ALL_ORGANS` for the mean over all.
        fraction: share of the labels, %.
        arm: name of the arm.
        interval: mean over the patients' means of the finished runs, with its interval.
        folds: the same mean of each fold, NaN where there is none.
        values: number of finite values.
        cases: number of different cases.
        patients: number of different patients.
        undefined: number of values that are undefined.
        finished: number of runs with scores.
        planned: number of runs of the arm at this fraction.
    """

    metric: str
    organ: str
    fraction: float
    arm: str
    interval: Interval
    folds: Mapping[int | str, float]
    values: int
    cases: int
    patients: int
    undefined: int
    finished: int
    planned: int


@dataclass(frozen=True)
class StudyTable:
    """All rows and comparisons of a study, and its runs without scores.

    Attributes:
        metrics: metrics, in order.
        arms: arms, in order.
        folds: folds, in order.
        rows: see `Row`.
        comparisons: see `Comparison`.
        runs: number of runs that the study plans.
        failed: runs that failed, by name.
        missing: runs that are not there yet or have no scores, by name.
    """

    metrics: tuple[str, ...]
    arms: tuple[str, ...]
    folds: tuple[int | str, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    runs: int
    failed: tuple[str, ...]
    missing: tuple[str, ...]


def study_table(
    results: Sequence[Result],
    *,
    metrics: Sequence[str],
    organs: Sequence[str] | None = None,
    reference_arm: str | None = None,
    compare: Sequence[tuple[str, str]] = (),
    seed: int = 0,
) -> StudyTable:
    """Read the scores of all finished runs, average them and compare the arms.

    Args:
        results: all runs that the study plans.
        metrics: columns of ``scores.csv``.
        organs: organs to report; None for all.
        reference_arm: the arm that all others are compared with; None compares every pair.
        compare: pairs of arms that are tested first, as a family of their own; they are not tested again.
        seed: seed of bootstrap and drawn sign flips.

    Raises:
        InputError: if an arm, organ or metric is not there, scores cannot be read, or a case is scored in some folds
            and not in others.
    """
    arms = tuple(dict.fromkeys(result.arm for result in results))
    if reference_arm is not None and reference_arm not in arms:
        raise InputError("reference_arm", f"is {reference_arm!r}", f"choose from {', '.join(arms)}")
    if not metrics:
        raise InputError("metrics", "is empty", "name at least one column of scores.csv, for example dice")
    scores = {result: read_scores(result.scores, metrics) for result in results if result.scores is not None}
    check_doubled_cases(scores)
    found = list(dict.fromkeys(score.organ for own in scores.values() for score in own))
    unknown = [organ for organ in organs or () if scores and organ not in found]
    if unknown:
        raise InputError("organs", f"asks for {unknown[0]}, which no run scored", f"choose from {', '.join(found)}")
    wanted = list(organs or found)
    single = {organ: [organ] for organ in wanted}
    overall = {ALL_ORGANS: wanted} if len(wanted) > 1 else {}
    fractions = sorted({result.fraction for result in results})
    folds = tuple(sorted({result.fold for result in results}, key=lambda fold: (isinstance(fold, str), fold)))
    planned = {(result.arm, result.fraction) for result in results}
    others = [pair for pair in _pairs(arms, reference_arm) if pair not in compare and pair[::-1] not in compare]
    families = {
        named: [
            (fraction, arm, against)
            for fraction, (arm, against) in itertools.product(fractions, pairs)
            if {(arm, fraction), (against, fraction)} <= planned
        ]
        for named, pairs in ((True, compare), (False, others))
    }
    unfinished = {(result.fraction, result.arm) for result in results if result not in scores}
    rows = [
        _row(results, scores, metric, organ, kept, fraction, arm, folds, seed)
        for metric, (organ, kept), fraction, arm in itertools.product(
            metrics, (single | overall).items(), fractions, arms
        )
    ]
    comparisons = [
        comparison
        for named, pairs in families.items()
        for metric in metrics
        for rows_of in (single, overall)
        for comparison in compare_arms(scores, metric, rows_of, pairs, unfinished=unfinished, planned=named, seed=seed)
    ]
    return StudyTable(
        metrics=tuple(metrics),
        arms=arms,
        folds=folds,
        rows=tuple(row for row in rows if row.planned),
        comparisons=tuple(comparisons),
        runs=len(results),
        failed=tuple(result.name for result in results if result.state == "failed"),
        missing=tuple(result.name for result in results if result.state != "failed" and result.scores is None),
    )


def table_values(table: StudyTable) -> dict[str, Any]:
    """The table as plain values for JSON; None where there is no number."""
    return {
        "runs": {"planned": table.runs, "failed": list(table.failed), "missing": list(table.missing)},
        "rows": [
            {
                "metric": row.metric,
                "organ": row.organ,
                "fraction": row.fraction,
                "arm": row.arm,
                **_interval_values(row.interval, "mean"),
                "values": row.values,
                "undefined": row.undefined,
                "cases": row.cases,
                "patients": row.patients,
                "finished_runs": row.finished,
                "planned_runs": row.planned,
                "folds": {str(fold): finite_or_none(mean) for fold, mean in row.folds.items()},
            }
            for row in table.rows
        ],
        "comparisons": [
            {
                "metric": one.metric,
                "organ": one.organ,
                "fraction": one.fraction,
                "arm": one.arm,
                "against": one.against,
                **_interval_values(one.test.difference, "difference"),
                "patients": one.test.difference.groups,
                "unpaired": one.test.unpaired,
                "p": finite_or_none(one.test.p),
                "p_holm": finite_or_none(one.p_holm),
                "smallest_p": finite_or_none(one.test.smallest_p),
                "smallest_p_holm": finite_or_none(one.smallest_p_holm),
                "family": one.family,
                "planned": one.planned,
                "verdict": one.verdict,
            }
            for one in table.comparisons
        ],
        "rules": RULES,
    }


def _row(
    results: Sequence[Result],
    scores: Mapping[Result, Sequence[Score]],
    metric: str,
    organ: str,
    kept: Sequence[str],
    fraction: float,
    arm: str,
    folds: Sequence[int | str],
    seed: int,
) -> Row:
    planned = [result for result in results if (result.arm, result.fraction) == (arm, fraction)]
    finished = [result for result in planned if result in scores]
    own = [(result.fold, score) for result in finished for score in scores[result] if score.organ in kept]
    values = [score.values[metric] for _, score in own]
    means = _patient_means([score for _, score in own], metric)
    return Row(
        metric=metric,
        organ=organ,
        fraction=fraction,
        arm=arm,
        interval=mean_interval(list(means.values()), list(means), bounds=METRIC_BOUNDS.get(metric), seed=seed),
        folds={
            fold: mean_of_defined(_patient_means([s for place, s in own if place == fold], metric).values())
            for fold in folds
        },
        values=sum(math.isfinite(value) for value in values),
        cases=len({score.case for _, score in own}),
        patients=len({score.patient for _, score in own}),
        undefined=sum(not math.isfinite(value) for value in values),
        finished=len(finished),
        planned=len(planned),
    )


def _patient_means(scores: Sequence[Score], metric: str) -> dict[str, float]:
    of_patient: dict[str, list[float]] = {}
    for score in scores:
        of_patient.setdefault(score.patient, []).append(score.values[metric])
    return {patient: mean_of_defined(of_patient[patient]) for patient in sorted(of_patient)}


def _pairs(arms: Sequence[str], reference_arm: str | None) -> list[tuple[str, str]]:
    if reference_arm is not None:
        return [(arm, reference_arm) for arm in arms if arm != reference_arm]
    return [(second, first) for first, second in itertools.combinations(arms, 2)]


def _interval_values(interval: Interval, name: str) -> dict[str, float | None]:
    return {
        name: finite_or_none(interval.mean),
        "low": finite_or_none(interval.low),
        "high": finite_or_none(interval.high),
    }
