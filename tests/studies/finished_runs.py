"""What finished runs leave behind, written without running anything."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from mtmed.studies.results import Result

COLUMNS = ("dataset", "case", "group", "organ", "dice", "hd95")


def write_scores(folder: Path, rows: Sequence[tuple]) -> Path:
    """Write ``scores.csv``: (case, patient, organ, Dice, HD95) each, None where undefined."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(("demo", *("" if value is None else value for value in row)) for row in rows)
    return folder


def run_with_scores(folder: Path, arm: str, rows: Sequence[tuple], *, fold=0, fraction=100.0, seed=0) -> Result:
    """A finished run without pictures; `rows` as in `write_scores`."""
    place = folder / f"{arm}-{fold}-{fraction:g}-{seed}"
    return Result(arm, fold, fraction, seed, "finished", None, write_scores(place, rows))


def run_without_scores(arm: str, state: str, *, fold=0, fraction=100.0, seed=0) -> Result:
    return Result(arm, fold, fraction, seed, state)


def write_training(folder: Path, losses: Sequence[float], dice: Mapping[int, float], metric: str = "mean_dice") -> Path:
    """Write ``losses.csv`` and TensorBoard events with the validation Dice by iteration."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "losses.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "loss", "segmentation", "learning_rate"])
        writer.writerows([step, loss, loss, 1e-3] for step, loss in enumerate(losses, start=1))
    with SummaryWriter(str(folder)) as events:
        for step, value in dice.items():
            events.add_scalar(f"validation/{metric}", value, step)
            events.add_image("validation/overlay", np.zeros((4, 4, 3), np.uint8), step, dataformats="HWC")
    date_back(folder)
    return folder


def date_back(folder: Path) -> None:
    """Give the one event file of a folder the name of an earlier second, so that it is read before what comes next.

    TensorBoard reads event files in the order of their names: the second, then a number that a process counts up
    without leading zeros, so that within one second the file 100 is read before the file 99.
    """
    (written,) = folder.glob("events.out.tfevents.*")
    written.rename(folder / "events.out.tfevents.0000000001.earlier")


def write_case(
    evaluation: Path,
    case: str,
    image: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    affine: np.ndarray,
    organs: Mapping[str, tuple[int, int]],
    *,
    window: tuple[float, float] | None = None,
) -> None:
    """Write the files of one case and add it to ``cases.json``."""
    (evaluation / "predictions").mkdir(parents=True, exist_ok=True)
    paths = {name: evaluation / f"{case}_{name}.nii.gz" for name in ("image", "reference")}
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), paths["image"])
    nib.save(nib.Nifti1Image(reference.astype(np.uint8), affine), paths["reference"])
    nib.save(
        nib.Nifti1Image(prediction.astype(np.uint8), affine), evaluation / "predictions" / f"demo_{case}_seg.nii.gz"
    )
    listed = evaluation / "cases.json"
    entries = json.loads(listed.read_text()) if listed.is_file() else {}
    entries[f"demo/{case}"] = {
        "image": str(paths["image"]),
        "reference": str(paths["reference"]),
        "organs": organs,
        "window": window,
    }
    listed.write_text(json.dumps(entries))


def block(shape: tuple[int, int, int] = (12, 10, 6)) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image, reference, prediction (one voxel too far along the first axis) and affine; organ 2, in the file 7."""
    reference, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    reference[3:6, 4:8, 2:5] = 7
    prediction[4:7, 4:8, 2:5] = 2
    return 100.0 * (reference > 0) + np.arange(shape[0])[:, None, None], reference, prediction, np.eye(4)
