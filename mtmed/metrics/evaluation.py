"""Scoring of a cohort while an evaluator runs over it: every case on its own grid, then one report."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from mtmed.data.case import Case
from mtmed.data.feature_check import metadata_numbers
from mtmed.data.manifest import Cohort
from mtmed.errors import InputError
from mtmed.metrics.case_report import CaseReport, prediction_on_grid, read_reference
from mtmed.metrics.names import ORGAN_METRICS, ORGAN_TABLE
from mtmed.metrics.report import summary_table, write_report
from mtmed.metrics.scores import EmptyPolicy, OrganScore, score_case
from mtmed.output_name import output_name

__all__ = ["EvaluationReport", "evaluation_cases"]

logger = logging.getLogger(__name__)


def evaluation_cases(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Rows for an evaluator: ``{"image": list of paths, "case": key, "output_name": name}`` and the case's maps.

    Where the case has numbers in its metadata, they are its ``metadata``.

    Args:
        cases: labelled cases, for example ``split.validation``.

    Raises:
        InputError: if there is none, one has no label, or two would give files of one name.
    """
    if not cases:
        raise InputError("fold", "has no case to evaluate", "choose another fold or fewer folds")
    for case in cases:
        if case.label is None:
            raise InputError(case.key, "has no label", "evaluate labelled cases, or predict it with inference.json")
    rows = [_row(case) for case in cases]
    _refuse_one_name_for_two(rows)
    return rows


def _row(case: Case) -> dict[str, Any]:
    numbers = metadata_numbers(case)
    row = {"image": list(case.image), "case": case.key, "output_name": output_name(case.key)}
    return {**case.maps, **row, **({"metadata": numbers} if numbers else {})}


def _refuse_one_name_for_two(rows: Sequence[Mapping[str, Any]]) -> None:
    taken: dict[str, str] = {}
    for row in rows:
        # compared without case: some file systems do not know it
        other = taken.setdefault(row["output_name"].casefold(), row["case"])
        if other != row["case"]:
            problem = f"would give the same output name as {other}"
            raise InputError(row["case"], problem, "give one of them another 'id' in its dataset.json")


class EvaluationReport(CaseReport):
    """Handler that scores each prediction against its label file and reports at the end.

    Predictions are brought to the grid of the label file (the image's own), so that resampling errors count, and
    compared with the file as it stands. Organs are matched by name: those that both the network and the case's data set
    label, after `label_groups` has merged the data set's labels. Writes ``scores.csv``, ``summary.json`` and, per case,
    ``overlays/<case>.png``, and logs the table.

    Args:
        cohort: data sets of the cases.
        cases: the cases that are evaluated.
        label_names: name of each label value of the network.
        output_dir: folder for the report.
        label_groups: names of the data sets' labels that are one organ for the network, by its name, for example
            ``{"kidney": ["kidney", "tumour"]}``; other labels are not scored. None to score the labels as they are.
        metrics: scores in the summary and its table, see `mtmed.metrics.names.ORGAN_METRICS`; ``scores.csv`` has all.
        tolerance: of surface Dice, mm.
        empty: Dice of an organ that neither reference nor prediction has; see `mtmed.metrics.EMPTY_RULES`.
        window: lowest and highest image value in the overlays; None for quantiles of each image.
        overlays: whether to draw them.
        protocol: what else the report must state (fold, model hash ...).
        seed: seed of the bootstrap.

    Raises:
        InputError: if the folder cannot be written, a data set labels no organ of the network's, or a metric is
            unknown.
    """

    def __init__(
        self,
        *,
        cohort: Cohort,
        cases: Sequence[Case],
        label_names: Mapping[int | str, str],
        output_dir: str | Path,
        label_groups: Mapping[str, Sequence[str]] | None = None,
        metrics: Sequence[str] = ORGAN_TABLE,
        tolerance: float = 2.0,
        empty: EmptyPolicy = "nan",
        window: Sequence[float] | None = None,
        overlays: bool = True,
        protocol: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        unknown = [name for name in metrics if name not in ORGAN_METRICS]
        if unknown or not metrics:
            problem = f"asks for {unknown[0]!r}" if unknown else "is empty"
            raise InputError("metrics", problem, f"choose from {', '.join(ORGAN_METRICS)}")
        super().__init__(
            cohort=cohort,
            cases=cases,
            label_names=label_names,
            label_groups=label_groups,
            output_dir=output_dir,
            window=window,
            overlays=overlays,
        )
        self.metrics = tuple(metrics)
        self.tolerance = tolerance
        self.empty = empty
        merged = {} if label_groups is None else {"label_groups": dict(label_groups)}
        self.protocol = {"surface_dice_tolerance_mm": tolerance, "both_empty": empty, **merged, **(protocol or {})}
        self.seed = seed
        self.scores: list[OrganScore] = []

    def start(self) -> None:
        """Forget all scores."""
        self.scores = []

    def score(self, case: Case, prediction: MetaTensor, name: str) -> None:
        """Score the organs of one case and draw it."""
        reference = read_reference(str(case.label))
        predicted = prediction_on_grid(prediction, reference)
        scores = score_case(
            predicted,
            reference.data,
            reference.spacing,
            self.organs[case.dataset],
            dataset=case.dataset,
            case=case.id,
            group=case.group,
            tolerance=self.tolerance,
            empty=self.empty,
        )
        self.scores += scores
        caption = "Dice: " + ", ".join(f"{score.organ} {score.dice:.2f}" for score in scores)
        self.draw(case, name, predicted, reference, caption)

    def finish(self) -> None:
        """Write the report and log its table."""
        summary = write_report(
            self.scores, self.output_dir, metrics=self.metrics, protocol=self.protocol, seed=self.seed
        )
        counts = f"{summary['cases']} cases of {summary['patients']} patients, mean (95 % interval over patients)"
        logger.info("%s\n%s", counts, summary_table(summary))
