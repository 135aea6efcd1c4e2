"""Scoring of a cohort while an evaluator runs over it: every case on its own grid, then one report."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from nibabel.orientations import aff2axcodes, apply_orientation, io_orientation
from numpy.typing import NDArray

from mtmed.data.case import Case
from mtmed.data.manifest import Cohort
from mtmed.errors import InputError
from mtmed.metrics.overlay import save_overlay
from mtmed.metrics.report import summary_table, write_report
from mtmed.metrics.scores import EmptyPolicy, OrganScore, score_case
from mtmed.transforms.reading import read_volume
from mtmed.transforms.writing import require_writable_folder, resample_label_to

__all__ = ["EvaluationReport", "evaluation_cases"]

logger = logging.getLogger(__name__)


def evaluation_cases(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Rows for an evaluator: ``{"image": list of paths, "case": key, "output_name": name}``.

    Args:
        cases: labelled cases, for example ``split.validation``.

    Raises:
        InputError: if there is none, or one has no label.
    """
    if not cases:
        raise InputError("fold", "has no case to evaluate", "choose another fold or fewer folds")
    for case in cases:
        if case.label is None:
            raise InputError(case.key, "has no label", "evaluate labelled cases, or predict it with inference.json")
    return [{"image": list(case.image), "case": case.key, "output_name": case.key.replace("/", "_")} for case in cases]


class EvaluationReport:
    """Handler that scores each prediction against its label file and reports at the end.

    Predictions are brought to the grid of the label file (the image's own), so that resampling errors count, and
    compared with the file as it stands. Organs are matched by name: those that both the network and the case's data set
    label. Writes ``scores.csv``, ``summary.json`` and, per case, ``overlays/<case>.png``, and logs the table.

    Args:
        cohort: data sets of the cases.
        cases: the cases that are evaluated.
        label_names: name of each label value of the network.
        output_dir: folder for the report.
        tolerance: of surface Dice, mm.
        empty: Dice of an organ that neither reference nor prediction has; see `mtmed.metrics.EMPTY_RULES`.
        window: lowest and highest image value in the overlays; None for quantiles of each image.
        overlays: whether to draw them.
        protocol: what else the report must state (fold, model hash ...).
        seed: seed of the bootstrap.

    Raises:
        InputError: if the folder cannot be written or a data set labels no organ of the network's.
    """

    def __init__(
        self,
        *,
        cohort: Cohort,
        cases: Sequence[Case],
        label_names: Mapping[int | str, str],
        output_dir: str | Path,
        tolerance: float = 2.0,
        empty: EmptyPolicy = "nan",
        window: Sequence[float] | None = None,
        overlays: bool = True,
        protocol: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.cases = {case.key: case for case in cases}
        self.label_names = {int(value): name for value, name in label_names.items()}
        self.organs = {
            name: shared_organs(self.label_names, cohort.label_names(name), name)
            for name in dict.fromkeys(case.dataset for case in cases)
        }
        self.output_dir = require_writable_folder(output_dir)
        self.tolerance = tolerance
        self.empty = empty
        self.window = (float(window[0]), float(window[1])) if window is not None else None
        self.overlays = overlays
        self.protocol = {"surface_dice_tolerance_mm": tolerance, "both_empty": empty, **(protocol or {})}
        self.seed = seed
        self.scores: list[OrganScore] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator with decollated outputs."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _reset(self, engine: Any) -> None:
        self.scores = []

    def _score(self, engine: Any) -> None:
        for row, output in zip(engine.state.batch, engine.state.output, strict=True):
            case = self.cases[row["case"]]
            reference = read_volume(str(case.label))
            truth = _volume(reference.data)
            network_grid = np.asarray(output["pred"].affine.cpu(), np.float64)
            predicted = np.asarray(output["pred"].as_tensor()[0].cpu())
            predicted = resample_label_to(predicted, network_grid, truth.shape, reference.affine)
            organs = self.organs[case.dataset]
            self.scores += score_case(
                predicted,
                truth,
                reference.spacing,
                organs,
                dataset=case.dataset,
                case=case.id,
                group=case.group,
                tolerance=self.tolerance,
                empty=self.empty,
            )
            if self.overlays:
                self._draw(case, row["output_name"], predicted, truth, reference.affine, organs)

    def _draw(
        self,
        case: Case,
        name: str,
        predicted: NDArray[Any],
        truth: NDArray[Any],
        affine: NDArray[Any],
        organs: Mapping[str, tuple[int, int]],
    ) -> None:
        # the reference in the network's label values, so that an organ has one colour
        renamed = np.zeros(truth.shape, np.int16)
        for ours, theirs in organs.values():
            renamed[truth == theirs] = ours
        own = [score for score in self.scores if (score.dataset, score.case) == (case.dataset, case.id)]
        dice = ", ".join(f"{score.organ} {score.dice:.2f}" for score in own)
        to_ras = io_orientation(affine)
        image, label, prediction = (
            np.asarray(apply_orientation(volume, to_ras))
            for volume in (_volume(read_volume(case.image[0]).data), renamed, predicted)
        )
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        spacing = [float(lengths[int(np.flatnonzero(to_ras[:, 0] == axis)[0])]) for axis in range(3)]
        folder = require_writable_folder(self.output_dir / "overlays")
        title = f"{case.key}, grid {''.join(aff2axcodes(affine))}\nDice: {dice}"
        save_overlay(
            folder / f"{name}.png", image, label, prediction, spacing, self.label_names, title=title, window=self.window
        )

    def _report(self, engine: Any) -> None:
        scored = {f"{score.dataset}/{score.case}" for score in self.scores}
        lost = sorted(set(self.cases) - scored)
        if lost:
            raise InputError(lost[0], f"and {len(lost) - 1} others were not scored", "evaluate all cases of the fold")
        summary = write_report(self.scores, self.output_dir, protocol=self.protocol, seed=self.seed)
        counts = f"{summary['cases']} cases of {summary['patients']} patients, mean (95 % interval over patients)"
        logger.info("%s\n%s", counts, summary_table(summary))


def shared_organs(ours: Mapping[int, str], theirs: Mapping[int, str], dataset: str) -> dict[str, tuple[int, int]]:
    """Organs that a network and a data set both label: name to (network's value, data set's value).

    Raises:
        InputError: if there is none.
    """
    values = {name.casefold(): value for value, name in theirs.items() if value != 0}
    shared = {
        name: (value, values[name.casefold()])
        for value, name in ours.items()
        if value != 0 and name.casefold() in values
    }
    if not shared:
        problem = f"labels {', '.join(values)}, the network {', '.join(n for v, n in ours.items() if v != 0)}"
        raise InputError(dataset, problem, "evaluate on a data set that labels one of the network's organs by its name")
    return shared


def _volume(data: NDArray[Any]) -> NDArray[Any]:
    return data[..., 0] if data.ndim == 4 and data.shape[-1] == 1 else data
