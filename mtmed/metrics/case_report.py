"""What reports on a cohort share: each case on the grid of its reference, its picture, and that no case is lost."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from nibabel.orientations import aff2axcodes, apply_orientation, io_orientation
from numpy.typing import NDArray

from mtmed.data.case import Case
from mtmed.data.label_groups import group_labels, group_names
from mtmed.data.manifest import Cohort, Manifest
from mtmed.data.organ_labels import values_of_organs
from mtmed.errors import InputError
from mtmed.files import require_writable_folder
from mtmed.metrics.overlay import save_overlay
from mtmed.metrics.scores import has_value
from mtmed.metrics.tables import write_json
from mtmed.transforms.nifti import NiftiVolume
from mtmed.transforms.reading import read_label, read_volume
from mtmed.transforms.resampling import first_channel_on_grid
from mtmed.transforms.writing import resample_label_to

__all__ = ["CaseReport", "Values", "prediction_on_grid", "read_reference", "shared_organs"]

Values = int | tuple[int, ...]
"""The value of an organ in a label map, or its values if there are several."""

_ON_GRID_OF_IMAGE = (".csv", ".png")  # all other label files say themselves where they lie


class CaseReport(ABC):
    """Handler that scores each prediction against the files of its case and reports at the end.

    A report implements `start`, `score` and `finish`. Beside it stands ``cases.json``: the files of each case, and its
    organs with their values in prediction and reference (a list if there are several), for whoever wants to draw them.
    The evaluator's batches are rows of `mtmed.metrics.evaluation_cases`; its outputs have the label map under ``pred``,
    a `MetaTensor` (C, H, W, D) on the network's grid.

    Args:
        cohort: data sets of the cases.
        cases: the cases that are evaluated.
        label_names: name of each label value of the network.
        output_dir: folder for the report.
        window: lowest and highest image value in the overlays; None for quantiles of each image.
        overlays: whether to draw them.
        label_groups: labels of the data sets that are one organ, by its name; None to take the labels as they are.
        organ_values: values of each organ in the predictions, for masks that overlap
            (`mtmed.organ_masks.organ_values`); None: each organ has the one value of `label_names`.

    Raises:
        InputError: if the folder cannot be written, or a data set labels no organ of the network's or none of a group.
    """

    def __init__(
        self,
        *,
        cohort: Cohort,
        cases: Sequence[Case],
        label_names: Mapping[int | str, str],
        output_dir: str | Path,
        window: Sequence[float] | None,
        overlays: bool,
        label_groups: Mapping[str, Sequence[str]] | None = None,
        organ_values: Mapping[str, Values] | None = None,
    ) -> None:
        self.cases = {case.key: case for case in cases}
        self.label_names = {int(value): name for value, name in label_names.items()}
        ours = organ_values or {name: value for value, name in self.label_names.items() if value != 0}
        used = {case.dataset for case in cases}
        grouped = None if label_groups is None else group_labels(cohort, label_groups)
        self.organs = {
            manifest.name: shared_organs(
                ours, _values_in_files(manifest, grouped, label_groups, packed=organ_values is not None), manifest.name
            )
            for manifest in cohort.manifests
            if manifest.name in used
        }
        self.output_dir = require_writable_folder(output_dir)
        self.window = (float(window[0]), float(window[1])) if window is not None else None
        self.overlays = overlays
        self._scored: set[str] = set()

    @abstractmethod
    def start(self) -> None:
        """Forget all scores."""

    @abstractmethod
    def score(self, case: Case, prediction: MetaTensor, name: str) -> None:
        """Score one case.

        Args:
            case: the case.
            prediction: label map (C, H, W, D) on the network's grid.
            name: the case's name in files.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write the report; all cases have been scored."""

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator with decollated outputs."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Any) -> None:
        self._scored = set()
        self.start()

    def _score(self, engine: Any) -> None:
        for row, output in zip(engine.state.batch, engine.state.output, strict=True):
            case = self.cases[row["case"]]
            self.score(case, output["pred"], row["output_name"])
            self._scored.add(case.key)

    def _finish(self, engine: Any) -> None:
        lost = sorted(set(self.cases) - self._scored)
        if lost:
            raise InputError(lost[0], f"and {len(lost) - 1} others were not scored", "evaluate all cases of the fold")
        self.finish()
        files = {
            key: {
                "image": case.images[0],
                "reference": case.label,
                "organs": self.organs[case.dataset],
                "window": self.window,
            }
            for key, case in self.cases.items()
        }
        write_json(self.output_dir / "cases.json", files)

    def draw(self, case: Case, name: str, prediction: NDArray[Any], reference: NiftiVolume, caption: str) -> None:
        """Write ``overlays/<name>.png``, if overlays are wanted.

        Args:
            case: the case; its first image is drawn.
            name: the case's name in files.
            prediction: label map on the grid of the reference, in the network's label values.
            reference: label map in the data set's label values.
            caption: second line of the picture, for example the scores.
        """
        if not self.overlays:
            return
        # the reference in the network's label values, so that an organ has one colour
        renamed = np.zeros(reference.data.shape, np.int16)
        for ours, theirs in self.organs[case.dataset].values():
            mask = has_value(reference.data, theirs)
            renamed[mask] = ours if isinstance(ours, int) else renamed[mask] | min(ours)
        affine = reference.affine
        to_ras = io_orientation(affine)
        image, label, predicted = (
            np.asarray(apply_orientation(volume, to_ras))
            for volume in (first_channel_on_grid(read_volume(case.images[0]), reference), renamed, prediction)
        )
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        spacing = [float(lengths[int(np.flatnonzero(to_ras[:, 0] == axis)[0])]) for axis in range(3)]
        folder = require_writable_folder(self.output_dir / "overlays")
        title = f"{case.key}, grid {''.join(aff2axcodes(affine))}\n{caption}"
        save_overlay(
            folder / f"{name}.png", image, label, predicted, spacing, self.label_names, title=title, window=self.window
        )


def read_reference(path: str, image: str | None = None) -> NiftiVolume:
    """Read a label map as integers (H, W, D); values stored with a scale factor (0.9999) are rounded.

    Args:
        path: file of the label map.
        image: first image of its case, on whose grid a table of masks or a PNG lies; None if there is none. It is read
            only for these.

    Raises:
        InputError: see `mtmed.transforms.reading.read_label`.
    """
    needs_image = image is not None and path.lower().endswith(_ON_GRID_OF_IMAGE)
    volume = read_label(path, read_volume(str(image)) if needs_image else None)
    data = _volume(volume.data)
    return replace(volume, data=np.rint(data).astype(np.int32) if data.dtype.kind == "f" else data)


def prediction_on_grid(prediction: MetaTensor, reference: NiftiVolume, *, channel: int = 0) -> NDArray[Any]:
    """One channel of a predicted label map (C, H, W, D), brought to the grid of a reference."""
    network_grid = np.asarray(prediction.affine.cpu(), np.float64)
    labels = np.asarray(prediction.as_tensor()[channel].cpu())
    return resample_label_to(labels, network_grid, reference.data.shape, reference.affine)


def shared_organs(
    ours: Mapping[str, Values], theirs: Mapping[str, Values], dataset: str
) -> dict[str, tuple[Values, Values]]:
    """Organs that a network and a data set both label: name to (network's values, data set's values).

    Args:
        ours: values of each organ in the predictions.
        theirs: values of each organ in the files of the data set; upper and lower case are the same.
        dataset: name of the data set.

    Raises:
        InputError: if there is none.
    """
    known = {name.casefold(): values for name, values in theirs.items()}
    shared = {name: (values, known[name.casefold()]) for name, values in ours.items() if name.casefold() in known}
    if not shared:
        problem = f"labels {', '.join(known)}, the network {', '.join(ours)}"
        raise InputError(dataset, problem, "evaluate on a data set that labels one of the network's organs by its name")
    return shared


def _values_in_files(
    manifest: Manifest,
    grouped: Mapping[str, Mapping[int, int]] | None,
    label_groups: Mapping[str, Sequence[str]] | None,
    *,
    packed: bool,
) -> dict[str, Values]:
    """Values of each organ in the label files of a data set; of its group, if there are groups."""
    if packed and grouped is None:
        # a network of masks that overlap knows no value that several organs share, but the organs themselves
        return {name: values[0] if len(values) == 1 else values for name, values in values_of_organs(manifest).items()}
    names: Mapping[int, str] = manifest.label_names
    if grouped is not None and label_groups is not None:
        of_group = group_names(label_groups)
        names = {value: of_group[group] for value, group in grouped[manifest.name].items()}
    every = sum(manifest.label_names)
    found: dict[str, tuple[int, ...]] = {}
    for value, name in names.items():
        if value == 0:
            continue
        # where masks overlap, a voxel of the organ has its bit and any others
        own = (
            [one for one in range(1, every + 1) if one & value and not one & ~every]
            if manifest.overlapping
            else [value]
        )
        found[name.casefold()] = tuple(dict.fromkeys((*found.get(name.casefold(), ()), *own)))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _volume(data: NDArray[Any]) -> NDArray[Any]:
    return data[..., 0] if data.ndim == 4 and data.shape[-1] == 1 else data
