"""Scoring of scans that are segmented slice by slice, while an evaluator runs over them: every scan on its own grid."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor

from mtmed.data.case import Case
from mtmed.data.manifest import Cohort
from mtmed.errors import InputError
from mtmed.files import require_writable_folder
from mtmed.metrics.case_report import CaseReport, prediction_on_grid, read_reference
from mtmed.metrics.scores import EmptyPolicy
from mtmed.metrics.slice_scores import OrganSlice, SliceScore, score_slices
from mtmed.metrics.slice_summary import slice_table, summarise_slices
from mtmed.metrics.tables import write_json, write_rows
from mtmed.organ_masks import organ_values, packed_names
from mtmed.transforms.nifti import NiftiVolume
from mtmed.transforms.predicted_masks import HIGHEST_PROBABILITY
from mtmed.transforms.slice_axis import slice_axis

__all__ = ["SliceReport", "write_slice_report"]

logger = logging.getLogger(__name__)


class SliceReport(CaseReport):
    """Handler that scores each prediction slice by slice and as a scan against its label file, and reports at the end.

    Predictions are packed maps of masks that may overlap (`mtmed.organ_masks`). A label that a data set names
    ``"liver + tumour"`` counts for both organs. Predictions are brought to the grid of the
    label file (the image's own), so that resampling errors count. Slices are the planes across the axis that runs from
    feet to head. Organs are matched by name: those that both the network and the case's data set label. A prediction of
    `mtmed.transforms.PredictedMasksd` brings the highest probability of each organ in each slice, from which
    `mtmed.metrics.image_auc` is made; a slice is an image, and so is an X-ray. Writes
    ``scores.csv`` (a row per scan and organ), ``slices.csv`` (a row per slice and organ), ``summary.json`` and, per
    scan, ``overlays/<case>.png``, and logs the table.

    Args:
        cohort: data sets of the cases.
        cases: the cases that are evaluated.
        organs: names of the network's organs, in the order of their bits.
        output_dir: folder for the report.
        empty: rule for slices and scans without an organ, see `mtmed.metrics.SLICE_RULES`.
        window: lowest and highest image value in the overlays; None for quantiles of each image.
        overlays: whether to draw them.
        protocol: what else the report must state (part, model hash ...).
        seed: seed of the bootstrap.

    Raises:
        InputError: if the folder cannot be written, a data set labels no organ of the network's, or the rule is
            unknown.
    """

    def __init__(
        self,
        *,
        cohort: Cohort,
        cases: Sequence[Case],
        organs: Sequence[str],
        output_dir: str | Path,
        empty: EmptyPolicy = "nan",
        window: Sequence[float] | None = None,
        overlays: bool = True,
        protocol: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if empty not in ("nan", "zero", "one"):
            raise InputError("empty", f"is {empty!r}", "choose 'nan', 'zero' or 'one'")
        super().__init__(
            cohort=cohort,
            cases=cases,
            label_names={str(value): name for value, name in packed_names(organs).items()},
            organ_values=organ_values(organs),
            output_dir=output_dir,
            window=window,
            overlays=overlays,
        )
        self.names = tuple(organs)
        self.empty: EmptyPolicy = empty
        self.protocol = {"empty": empty, **(protocol or {})}
        self.seed = seed
        self.scores: list[SliceScore] = []
        self.slices: list[OrganSlice] = []

    def start(self) -> None:
        """Forget all scores."""
        self.scores, self.slices = [], []

    def score(self, case: Case, prediction: MetaTensor, name: str) -> None:
        """Score the organs of one scan and draw it."""
        reference = read_reference(str(case.label), case.images[0])
        predicted = prediction_on_grid(prediction, reference)
        across = slice_axis(reference.affine)
        scores, slices = score_slices(
            np.moveaxis(predicted, across, 0),
            np.moveaxis(reference.data, across, 0),
            self.organs[case.dataset],
            dataset=case.dataset,
            case=case.id,
            group=case.group,
            empty=self.empty,
            highest=self._highest(prediction, reference),
        )
        self.scores += scores
        self.slices += slices
        caption = "slice Dice / Dice: " + ", ".join(
            f"{one.organ} {one.slice_dice:.2f} / {one.dice:.2f}" for one in scores
        )
        self.draw(case, name, predicted, reference, caption)

    def _highest(self, prediction: MetaTensor, reference: NiftiVolume) -> dict[str, list[float]]:
        """Highest probability of each organ in each slice of the reference; NaN for slices that were not predicted."""
        known = prediction.meta.get(HIGHEST_PROBABILITY)
        if known is None:
            return {}
        # from the middle of each slice to the slice of the prediction in which it lies
        across, affine = slice_axis(reference.affine), np.asarray(prediction.affine.cpu(), np.float64)
        middles = np.ones((reference.data.shape[across], 4))
        middles[:, :3] = (np.array(reference.data.shape[:3]) - 1) / 2
        middles[:, across] = np.arange(len(middles))
        places = middles @ (np.linalg.inv(affine) @ reference.affine).T
        index = np.floor(places[:, slice_axis(affine)] + 0.5).astype(np.int64)
        slices = len(known[0])
        seen = (index >= 0) & (index < slices)
        of_organs = np.where(seen, np.asarray(known, np.float64)[:, np.clip(index, 0, slices - 1)], math.nan)
        return dict(zip(self.names, of_organs.tolist(), strict=True))

    def finish(self) -> None:
        """Write the report and log its table."""
        summary = write_slice_report(self.scores, self.slices, self.output_dir, protocol=self.protocol, seed=self.seed)
        counts = f"{summary['slices']} slices of {summary['cases']} scans of {summary['patients']} patients"
        rule = "over slices and voxels of all scans together, Dice and Hausdorff distance over scans"
        logger.info("%s, mean (95 %% interval over patients) %s\n%s", counts, rule, slice_table(summary))


def write_slice_report(
    scores: Sequence[SliceScore],
    slices: Sequence[OrganSlice],
    output_dir: str | Path,
    *,
    protocol: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write ``scores.csv``, ``slices.csv`` and ``summary.json`` (see `mtmed.metrics.summarise_slices`).

    Args:
        scores: a row per scan and organ.
        slices: a row per slice and organ.
        output_dir: folder for the files.
        protocol: see `mtmed.metrics.summarise_slices`.
        seed: seed of the bootstrap.

    Returns:
        The summary.

    Raises:
        InputError: if there are no scores or the folder cannot be written.
    """
    if not scores:
        raise InputError(output_dir, "there is nothing to report: no case was scored", "check the part and the labels")
    folder = require_writable_folder(output_dir)
    summary = summarise_slices(scores, slices, protocol=protocol, seed=seed)
    write_rows(folder / "scores.csv", [asdict(one) for one in scores])
    write_rows(folder / "slices.csv", [asdict(one) for one in slices])
    write_json(folder / "summary.json", summary)
    return summary
