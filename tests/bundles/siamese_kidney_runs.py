"""A tiny cohort of kidneys in the layout of KiTS19, and settings so small that the bundle runs on it in seconds.

The fixtures that use them (`kidneys`, `siamese_options`, `pretrain_siamese`, `train_siamese`, `pretrained_siamese`,
`trained_siamese`) are in `conftest.py`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from running import run_in_process

__all__ = [
    "HIDDEN",
    "SETTINGS",
    "SHAPE",
    "SIAMESE_KIDNEY",
    "SINGLE_KIDNEY",
    "SPACING",
    "TINY_SIAMESE",
    "paint_kidneys",
    "run_siamese",
    "slices_first_affine",
    "tiny_options",
    "write_kidneys",
]

SIAMESE_KIDNEY = Path(__file__).parents[2] / "bundles" / "siamese_kidney"
SHAPE = (20, 32, 40)  # slices from the head down, rows to the back, columns to the patient's left
SPACING = (10.0, 8.0, 8.0)  # mm, of the same axes
SINGLE_KIDNEY = 2  # number of the case without a left kidney
HIDDEN = "case_00210"  # without labels
# of a network for this cohort
SETTINGS: dict[str, Any] = {
    "label_names": {"0": "background", "1": "kidney"},
    "modalities": ["CT"],
    "spacing": [8.0, 8.0, 10.0],
    "window": [-80.0, 300.0],
    "part": "whole",
    "window_size": [-1, -1, -1],
    "overlap": 0.0,
    "label_groups": {"kidney": ["kidney", "tumour"]},
}
TINY_SIAMESE: dict[str, Any] = {
    "device": "cpu",
    # torch's bfloat16 gradients on CPU differ between runs for feature maps of a few voxels
    "precision": "float32",
    # of the oriented volumes: 40 x 32 x 20 voxels
    "spacing": [8.0, 8.0, 10.0],
    "network_def#block_layers": [1, 1, 1, 1],
    "network_def#growth": [4, 4, 4, 4],
    "epochs": 2,
    "iterations_per_epoch": 2,
    "folds": 3,
}
_PRETRAIN: dict[str, Any] = {"region_mm": [128.0, 128.0, 160.0], "half_mm": [128.0, 256.0, 160.0], "batch_size": 2}
_CARRIED = ("network_def", "spacing")  # what a training with an encoder takes from its file


def paint_kidneys(
    seed: int, *, sides: str = "both", tumour: bool = True
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU and labels (0 background, 1 kidney, 2 tumour) of a patient, slices first.

    The left kidney is longer, higher and leans the other way; the liver is on the right.

    Args:
        seed: another one makes another patient.
        sides: which kidneys there are: ``"both"``, ``"left"``, ``"right"``, or ``"fused"`` for a horseshoe kidney.
        tumour: whether one kidney has a tumour.
    """
    generator = np.random.default_rng([7, seed])
    z, y, x = (axis.astype(float) for axis in np.indices(SHAPE))  # down, back, left
    middle = 19.5 + generator.uniform(-1, 1)
    body = ((x - middle) / 17) ** 2 + ((y - 16) / 13) ** 2 < 1
    hu = np.where(body, generator.normal(-20, 10, SHAPE), -1000.0)
    liver = ((x - middle + 8) / 7) ** 2 + ((y - 11) / 6) ** 2 + ((z - 4) / 4) ** 2 < 1
    hu[liver & body] = 70 + generator.normal(0, 10, int((liver & body).sum()))
    label = np.zeros(SHAPE, np.uint8)
    shapes = {"left": (1, 8.0, 4.8, 2.5, 0.25), "right": (-1, 10.5, 3.8, 3.0, 0.1)}
    wanted = [name for name in shapes if sides in (name, "both", "fused")]
    for name in wanted:
        sign, height, length, width, lean = shapes[name]
        height, length, width = np.array([height, length, width]) + generator.uniform(-0.4, 0.4, 3)
        column = middle + sign * (8 + lean * (z - height))
        kidney = ((z - height) / length) ** 2 + ((y - 19) / width) ** 2 + ((x - column) / width) ** 2 < 1
        label[kidney] = 1
    if sides == "fused":
        label[(abs(z - 12) < 1.5) & (abs(y - 19) < 2) & (abs(x - middle) < 9)] = 1
    if tumour and wanted:
        sign, height, *_ = shapes[wanted[int(generator.integers(len(wanted)))]]
        label[(z - height - 1) ** 2 + (y - 22) ** 2 + (x - middle - 8.5 * sign) ** 2 < 4] = 2
    for value, brightness in ((1, 180.0), (2, 90.0)):
        inside = label == value
        hu[inside] = brightness + generator.normal(0, 10, int(inside.sum()))
    return np.rint(hu).astype(np.int16), label


def slices_first_affine() -> NDArray[np.float64]:
    """Array axes are I, P, L, as in KiTS19."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -SPACING[0], -SPACING[1], -SPACING[2], 1
    return affine


def write_kidneys(
    folder: Path,
    *,
    cases: int = 7,
    hidden: bool = True,
    sides: Mapping[int, str] | None = None,
    tumours: bool = True,
    name: str = "Toy_KiTS",
    seed: int = 0,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Write a cohort with its `dataset.json`, each case another patient; returns the folder.

    Files are ``data/case_00000/imaging.nii.gz`` and ``segmentation.nii.gz``; the patient's name is the case's.

    Args:
        folder: made by this.
        cases: number of labelled cases.
        hidden: whether there is a test case without labels.
        sides: of a case, see `paint_kidneys`; by default case 2 has no left kidney and all others have both.
        tumours: whether every second case has one, as label 2; without, labels are 0 and 1.
        name: of the data set.
        seed: another one makes other patients.
        more: further keys of `dataset.json`.
    """
    sides = {SINGLE_KIDNEY: "right"} if sides is None else sides
    rows: list[dict[str, str]] = []
    for number in (*range(cases), *[210] * hidden):
        case = f"case_{number:05d}"
        (folder / "data" / case).mkdir(parents=True)
        hu, label = paint_kidneys(
            1000 * seed + number, sides=sides.get(number, "both"), tumour=tumours and number % 2 == 0
        )
        arrays = {"image": ("imaging", hu), **({"label": ("segmentation", label)} if number < 210 else {})}
        row = {"id": case, "patient": case}
        for key, (stem, array) in arrays.items():
            row[key] = f"./data/{case}/{stem}.nii.gz"
            nib.Nifti1Image(array, slices_first_affine()).to_filename(folder / row[key])
        rows.append(row)
    content = {
        "name": name,
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "kidney", **({"2": "tumour"} if tumours else {})},
        "training": [row for row in rows if "label" in row],
        "test": [row for row in rows if "label" not in row],
        **(more or {}),
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return str(folder)


def tiny_options(stage: str, data: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Overrides that make a stage tiny.

    Args:
        stage: ``pretrain`` or ``train``.
        data: folders ``data`` and ``store``.
        **more: overrides on top; with ``pretrained`` the network and its spacing are the file's.
    """
    own = _PRETRAIN if stage == "pretrain" else {}
    given = {**TINY_SIAMESE, **own, "dataset_dir": data["data"], "store_dir": data["store"], **more}
    if given.get("pretrained"):
        given = {key: value for key, value in given.items() if key in more or not key.startswith(_CARRIED)}
    return given


def run_siamese(stage: str, given: Mapping[str, Any], *overlays: str) -> Path:
    """Run a stage of the bundle in this process; returns its folder."""
    return run_in_process(stage, given, *overlays, bundle=SIAMESE_KIDNEY)
