"""Scoring of a cohort with lesions while an evaluator runs over it: against each rater, and averaged over raters."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from mtmed.data.case import Case
from mtmed.data.manifest import Cohort
from mtmed.errors import InputError
from mtmed.files import require_writable_folder
from mtmed.metrics.case_report import CaseReport, prediction_on_grid, read_reference
from mtmed.metrics.isbi2015 import ISBI_SCORE, cohort_isbi_score, cohort_volume_correlation
from mtmed.metrics.lesions import LESION_RULES, LesionScore, Neighbours, score_lesions
from mtmed.metrics.names import LESION_METRICS
from mtmed.metrics.report import SURFACES
from mtmed.metrics.scores import has_value
from mtmed.metrics.tables import (
    INTERVAL,
    NOTHING_MISSING,
    aligned_table,
    finite_or_none,
    mean_of_defined,
    metric_means,
    shown_mean,
    write_json,
    write_rows,
)

__all__ = ["LesionReport", "RaterScore", "lesion_table", "summarise_lesions", "write_lesion_report"]

logger = logging.getLogger(__name__)

_METRICS = tuple(field.name for field in fields(LesionScore))
_RATERS = "each case against each rater; a case has the mean over the raters for whom the score is defined"
_COUNTS = {
    "n_empty": "cases without a lesion in the reference",
    "n_both_empty": "of these without a predicted one",
    "n_missed": "cases with lesions and no predicted one",
}
_OF_COHORT = {"volume_correlation": "volume correlation", "isbi_score": "ISBI 2015 score"}


@dataclass(frozen=True)
class RaterScore:
    """Scores of one case against one rater.

    Attributes:
        dataset: data set of the case.
        case: id of the case.
        group: patient.
        organ: name of the label, for example ``lesion``.
        rater: number of the rater, from 1, in the order of the case's label maps.
        score: the scores.
    """

    dataset: str
    case: str
    group: str
    organ: str
    rater: int
    score: LesionScore

    @property
    def row(self) -> dict[str, Any]:
        """The case, the rater and all scores by name."""
        known = {"dataset": self.dataset, "case": self.case, "group": self.group, "organ": self.organ}
        return {**known, "rater": self.rater, **asdict(self.score)}


class LesionReport(CaseReport):
    """Handler that scores each prediction against every rater's label map and reports at the end.

    Predictions are brought to the grid of each label map, so that resampling errors count. Labels are matched by name:
    those that both the network and the case's data set have. Writes ``scores.csv`` (a row per case and label, averaged
    over raters), ``scores_by_rater.csv``, ``summary.json`` and, per case, ``overlays/<case>.png`` with the first
    rater's label map; logs the table.

    Args:
        cohort: data sets of the cases.
        cases: the cases that are evaluated.
        label_names: name of each label value of the scored channel.
        output_dir: folder for the report.
        channel: channel of the predicted label map that holds the lesions.
        neighbours: what counts as one lesion, see `mtmed.metrics.score_lesions`.
        window: lowest and highest image value in the overlays; None for quantiles of each image.
        overlays: whether to draw them.
        protocol: what else the report must state (fold, model hash ...).
        seed: seed of the bootstrap.

    Raises:
        InputError: if the folder cannot be written, a data set has no label of the network's, or the neighbourhood is
            unknown.
    """

    def __init__(
        self,
        *,
        cohort: Cohort,
        cases: Sequence[Case],
        label_names: Mapping[int | str, str],
        output_dir: str | Path,
        channel: int = 0,
        neighbours: Neighbours = 26,
        window: Sequence[float] | None = None,
        overlays: bool = True,
        protocol: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if neighbours not in (6, 18, 26):
            raise InputError("neighbours", f"is {neighbours!r}", "choose 26, 18 or 6")
        super().__init__(
            cohort=cohort,
            cases=cases,
            label_names=label_names,
            output_dir=output_dir,
            window=window,
            overlays=overlays,
        )
        self.channel = channel
        self.neighbours: Neighbours = neighbours
        counted = f"connected components with {neighbours} neighbours; one voxel in common is a detection"
        self.protocol = {"lesions": counted, **(protocol or {})}
        self.seed = seed
        self.scores: list[RaterScore] = []

    def start(self) -> None:
        """Forget all scores."""
        self.scores = []

    def score(self, case: Case, prediction: MetaTensor, name: str) -> None:
        """Score one case against its raters and draw it."""
        own = []
        for rater, path in enumerate(case.labels, start=1):
            reference = read_reference(path)
            predicted = prediction_on_grid(prediction, reference, channel=self.channel)
            for organ, (ours, theirs) in self.organs[case.dataset].items():
                score = score_lesions(
                    has_value(predicted, ours),
                    has_value(reference.data, theirs),
                    reference.spacing,
                    neighbours=self.neighbours,
                )
                own.append(RaterScore(case.dataset, case.id, case.group, organ, rater, score))
            if rater == 1:
                drawn = predicted, reference
        self.scores += own
        captions = (
            f"{one.organ}{f', rater {one.rater}' if len(case.labels) > 1 else ''}: "
            f"Dice {one.score.dice:.2f}, lesion-wise F1 {one.score.lesion_wise_f1:.2f}"
            for one in own
        )
        self.draw(case, name, *drawn, caption="\n".join(captions))

    def finish(self) -> None:
        """Write the report and log its tables."""
        summary = write_lesion_report(self.scores, self.output_dir, protocol=self.protocol, seed=self.seed)
        counts = f"{summary['cases']} cases of {summary['patients']} patients, mean (95 % interval over patients)"
        logger.info("%s\n%s", counts, lesion_table(summary))


def write_lesion_report(
    scores: Sequence[RaterScore],
    output_dir: str | Path,
    *,
    protocol: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write ``scores.csv``, ``scores_by_rater.csv`` and ``summary.json`` (see `summarise_lesions`).

    Args:
        scores: of all cases, labels and raters.
        output_dir: folder for the files.
        protocol: see `summarise_lesions`.
        seed: seed of the bootstrap.

    Returns:
        The summary.

    Raises:
        InputError: if there are no scores or the folder cannot be written.
    """
    if not scores:
        raise InputError(output_dir, "there is nothing to report: no case was scored", "check the fold and the labels")
    folder = require_writable_folder(output_dir)
    summary = summarise_lesions(scores, protocol=protocol, seed=seed)
    write_rows(folder / "scores.csv", _averaged_over_raters(scores))
    write_rows(folder / "scores_by_rater.csv", [one.row for one in scores])
    write_json(folder / "summary.json", summary)
    return summary


def summarise_lesions(
    scores: Sequence[RaterScore], *, protocol: Mapping[str, Any] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Means with 95 % intervals per label, averaged over raters and against each, and how it was measured.

    Volume correlation and ISBI score belong to a cohort: they are taken against each rater over all cases that this
    rater labelled, then averaged over the raters for whom they are defined.

    Args:
        scores: of all cases, labels and raters.
        protocol: what else must be known to repeat the measurement (fold, checkpoint hash, neighbours ...).
        seed: seed of the bootstrap.
    """
    organs = {}
    for organ in dict.fromkeys(one.organ for one in scores):
        own = [one for one in scores if one.organ == organ]
        raters = {}
        for rater in sorted({one.rater for one in own}):
            against = [one for one in own if one.rater == rater]
            raters[str(rater)] = {
                **metric_means([one.row for one in against], _METRICS, seed=seed),
                "volume_correlation": finite_or_none(cohort_volume_correlation([one.score for one in against])),
                "isbi_score": finite_or_none(cohort_isbi_score([one.score for one in against])),
                **_counts([one.row for one in against]),
            }
        averaged = _averaged_over_raters(own)
        means: dict[str, Any] = metric_means(averaged, _METRICS, seed=seed)
        for name in _OF_COHORT:
            of_raters = [one[name] for one in raters.values() if one[name] is not None]
            means[name] = finite_or_none(mean_of_defined(of_raters))
        organs[organ] = {**means, **_counts(averaged), "raters": raters}
    return {
        "organs": organs,
        "cases": len({(one.dataset, one.case) for one in scores}),
        "patients": len({(one.dataset, one.group) for one in scores}),
        "protocol": {
            "interval": INTERVAL,
            "surfaces": SURFACES,
            "raters": _RATERS,
            "isbi_score": ISBI_SCORE,
            "undefined": LESION_RULES,
            "missing": NOTHING_MISSING,
            **(protocol or {}),
        },
    }


def lesion_table(summary: Mapping[str, Any]) -> str:
    """The summary as tables in plain text, one per label: a line per metric, a column per rater if there are several.

    The column ``undefined`` counts the cases without a value for any rater.
    """
    tables = []
    for organ, means in summary["organs"].items():
        raters = means["raters"] if len(means["raters"]) > 1 else {}
        lines = [[organ, "mean", "undefined", *(f"rater {rater}" for rater in raters)]]
        for metric, name in LESION_METRICS.items():
            digits = 1 if metric == "hd95" else 3
            of_raters = (_number(own[metric]["mean"], digits) for own in raters.values())
            mean = shown_mean(means[metric], digits=digits)
            lines.append([name, mean, f"{means[metric]['n_undefined']} of {means['n']}", *of_raters])
        for metric, name in _OF_COHORT.items():
            lines.append([name, _number(means[metric]), "", *(_number(own[metric]) for own in raters.values())])
        for count, name in _COUNTS.items():
            lines.append([name, f"{means[count]} of {means['n']}", "", *(str(own[count]) for own in raters.values())])
        tables.append(aligned_table(lines))
    return "\n\n".join(tables)


def _averaged_over_raters(scores: Sequence[RaterScore]) -> list[dict[str, Any]]:
    """One row per case and label: the mean of each score over the raters for whom it is defined."""
    cases: dict[tuple[str, str, str], list[RaterScore]] = {}
    for one in scores:
        cases.setdefault((one.dataset, one.case, one.organ), []).append(one)
    rows = []
    for own in cases.values():
        row = own[0].row
        del row["rater"]
        for metric in _METRICS:
            row[metric] = mean_of_defined(getattr(one.score, metric) for one in own)
        rows.append({**row, "raters": len(own)})
    return rows


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows there are, and how many of them have no lesion in the reference, in neither, in the prediction."""
    lesions = [(row["reference_lesions"] > 0, row["predicted_lesions"] > 0) for row in rows]
    return {
        "n": len(rows),
        "n_empty": sum(not there for there, _ in lesions),
        "n_both_empty": lesions.count((False, False)),
        "n_missed": lesions.count((True, False)),
    }


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
