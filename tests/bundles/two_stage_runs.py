"""Tiny cohorts and settings so small that the two-stage bundle runs on them in seconds.

The fixtures that use them (`x_rays`, `hearts`, `two_stage_config`, `two_stage_options`, `train_two_stage`,
`trained_two_stage`) are in `conftest.py`.
"""

import contextlib
import csv
import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from running import run_in_process

from mtmed.data.demo import demo_chest_xray

__all__ = [
    "FIVE",
    "HEART_ORGANS",
    "HEART_SHAPE",
    "HEART_SPACING",
    "LOSS_OF",
    "TASKS",
    "TINY_3D",
    "TINY_TWO_STAGE",
    "TWO_STAGE",
    "losses_of",
    "paint_heart",
    "pretraining_in_process",
    "run_two_stage",
    "tiny_two_stage",
    "write_hearts",
    "write_x_rays",
]

TWO_STAGE = Path(__file__).parents[2] / "bundles" / "two_stage"
# 16 labelled X-rays, so split that every part shows a pneumothorax: 8, 4 and 4
SPLIT = {"split_seed": 7}
TINY_TWO_STAGE: dict[str, Any] = {
    "device": "cpu",
    # torch's bfloat16 gradients on CPU differ between runs for feature maps of a few voxels
    "precision": "float32",
    "image_size": [16, 16],
    "network_defs#small_unet#base_channels": 4,
    "network_defs#small_unet#depth": 2,
    "foreground_prior": 0.5,  # a few steps from there show more of what an input changes
    "epochs": 2,
    "iterations_per_epoch": 2,
    "batch_size": 4,
    **SPLIT,
}
# volumes are smaller than these patches, which have two voxels a side on the coarsest map
TINY_3D: dict[str, Any] = {
    "unet3d": {
        "network": "unet3d",
        "patch_size": [32, 32, 32],
        "network_defs#unet3d#features": [2, 2, 4, 4, 4, 2],
    },
    "unetr": {
        "network": "unetr",
        "patch_size": [32, 32, 32],
        "network_defs#unetr#feature_size": 2,
        "network_defs#unetr#hidden_size": 12,
        "network_defs#unetr#mlp_dim": 12,
        "network_defs#unetr#num_heads": 2,
    },
    "dense_unet": {
        "network": "dense_unet",
        "patch_size": [32, 32, 32],
        "network_defs#dense_unet#block_layers": [1, 1, 1, 1],
    },
}
FIVE = ("autoencoding", "in_painting", "jigsaw", "momentum_contrast", "inner_distance")
TASKS = (*FIVE, "outer_distance", "contour", "vicreg", "rotation")
LOSS_OF = {**{name: name for name in TASKS}, "autoencoding": "reconstruction"}
HEART_ORGANS = ("heart", "left_ventricle", "right_ventricle")
HEART_SHAPE = (20, 24, 16)  # columns to the patient's left, rows to the back, slices to the head
HEART_SPACING = (2.0, 1.5, 4.0)  # mm


def write_x_rays(folder: Path, *, labelled: int = 16, unlabelled: int = 8) -> str:
    """Write demo X-rays, 128 x 128 pixels or 112 x 128, in the layout of SIIM-ACR; returns the folder."""
    with contextlib.redirect_stdout(None):
        return demo_chest_xray(folder, labelled=labelled, unlabelled=unlabelled)


def paint_heart(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Grey values and packed masks of a heart, (columns, rows, slices).

    Both ventricles lie inside the heart, whose wall is the rest of it; the first and the last slice show none.
    """
    generator = np.random.default_rng([23, seed])
    x, y, z = (axis.astype(float) for axis in np.indices(HEART_SHAPE))
    grey = 100 + generator.normal(0, 8, HEART_SHAPE)
    label = np.zeros(HEART_SHAPE, np.uint8)
    places = [((10, 12, 7.5), (8, 9, 6.5)), ((12.5, 13, 7.5), (3.5, 4, 5)), ((6.5, 10, 7.5), (3, 4, 5))]
    for bit, (centre, radius) in enumerate(places):
        middle = np.array(centre) + generator.uniform(-0.5, 0.5, 3)
        inside = sum(((axis - m) / r) ** 2 for axis, m, r in zip((x, y, z), middle, radius, strict=True)) < 1
        label[inside] |= 1 << bit
        grey[inside] += (80, 150, 110)[bit]
    return np.rint(grey).astype(np.int16), label


def write_hearts(folder: Path, *, patients: int = 8, unlabelled: int = 2) -> str:
    """Write NIfTI volumes of hearts with organs that overlap, each of another patient; returns the folder."""
    rows: dict[str, list[dict[str, str]]] = {"training": [], "test": []}
    affine = np.diag([-HEART_SPACING[0], -HEART_SPACING[1], HEART_SPACING[2], 1.0])
    folder.mkdir(parents=True)
    for number in range(patients + unlabelled):
        grey, label = paint_heart(number)
        nib.Nifti1Image(grey, affine).to_filename(folder / f"heart{number}.nii.gz")
        row = {"image": f"./heart{number}.nii.gz", "id": f"heart{number}", "patient": f"p{number}"}
        if number < patients:
            nib.Nifti1Image(label, affine).to_filename(folder / f"heart{number}_label.nii.gz")
            row["label"] = f"./heart{number}_label.nii.gz"
        rows["training" if number < patients else "test"].append(row)
    content = {
        "name": "Toy_Hearts",
        "modality": {"0": "MR"},
        "labels": {"0": "background", **{str(1 << bit): organ for bit, organ in enumerate(HEART_ORGANS)}},
        "overlapping": True,
        **rows,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return str(folder)


def tiny_two_stage(stage: str, data: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Overrides that make a stage tiny.

    Args:
        stage: ``stage1``, ``distill``, ``inference`` or ``evaluate``.
        data: folders ``data`` and ``store``.
        **more: overrides on top.
    """
    if stage in ("stage1", "distill"):
        return {**TINY_TWO_STAGE, "dataset_dir": data["data"], "store_dir": data["store"], **more}
    own = SPLIT if stage == "evaluate" else {}
    return {"device": "cpu", "dataset_dir": data["data"], **own, **more}


def run_two_stage(stage: str, given: Mapping[str, Any], *overlays: str) -> Path:
    """Run a stage of the bundle in this process; a pre-training still gets one of its own."""
    return run_in_process(stage, given, *overlays, bundle=TWO_STAGE)


@contextlib.contextmanager
def pretraining_in_process() -> Iterator[list[dict[str, Any]]]:
    """Pre-train in this process too, which saves the imports; gives the configs that were run."""
    # the package has a function of this name
    module = importlib.import_module("mtmed.bundle.pretraining")
    started: list[dict[str, Any]] = []

    def run_config(config: dict[str, Any], path: Path, *, what: str, bundle: Path) -> None:
        path.write_text(json.dumps(config, default=str))
        started.append(config)
        with torch.random.fork_rng():
            run_two_stage(str(path), {"output_dir": config["output_dir"]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_config", run_config)
        yield started


def losses_of(folder: Path) -> list[dict[str, float]]:
    """Rows of ``losses.csv``."""
    with (folder / "losses.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
