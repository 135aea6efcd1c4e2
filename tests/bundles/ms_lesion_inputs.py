"""Brains with something wrong or odd about them, and the command that gets them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from ms_lesion_runs import MS_LESION, SPACING, TINY_MS

from mtmed.networks import build_network, save_network

__all__ = ["Prepare", "change_rows", "command", "image", "label", "rewrite", "save_weights", "with_head"]

Prepare = Callable[[Path], Any]


def image(case: str, modality: str) -> Path:
    return Path(f"cohort/images/{case}_{modality}.nii.gz")


def label(case: str, rater: int = 1) -> Path:
    return Path(f"cohort/labels/{case}_rater{rater}.nii.gz")


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    """Replace the voxels of a NIfTI file, and move it along the first axis, mm."""
    volume = nib.load(path)
    affine = volume.affine.copy()
    affine[0, 3] += shift
    nib.Nifti1Image(change(np.asarray(volume.dataobj)), affine).to_filename(path)


def change_rows(folder: Path, change: Callable[[int, dict[str, Any]], Any]) -> None:
    path = folder / "cohort" / "dataset.json"
    content = json.loads(path.read_text())
    for number, row in enumerate(content["training"]):
        change(number, row)
    path.write_text(json.dumps(content))


def with_head(data: np.ndarray) -> np.ndarray:
    """Something in every voxel that was 0."""
    noise = np.random.default_rng(0).integers(20, 60, data.shape)
    return np.where(data == 0, noise, data).astype(np.int16)


def save_weights(folder: Path, variant: str, modalities: tuple[str, ...] = ("FLAIR", "T1", "T2"), **more: Any) -> None:
    """A ``model.pt`` that was never trained."""
    channels = len(modalities) + (3 if variant == "multi_input" else 0)
    definition = {"_target_": "mtmed.networks.UNet", "features": [3, 4, 4, 4, 4, 3]}
    settings = {
        "variant": variant,
        "label_names": {"0": "background", "1": "lesion"},
        "modalities": list(modalities),
        "heads": [2],
        "spacing": [SPACING] * 3,
        "patch_size": TINY_MS["patch_size"],
        "brain_mask": False,
        "tissue": "hmrf",
        "tissue_modality": "T1",
        "tissue_table": "mtmed",
        "merged_lesions": "in_sample",
        **more,
    }
    name = "model.pt" if more or variant != "rough" else "rough.pt"
    if variant == "rough":
        settings["variant"] = "single"
    save_network(folder / name, build_network({**definition, "in_channels": channels, "out_channels": 2}), settings)


def command(folder: Path, config: str, arguments: tuple[str, ...]) -> list[str]:
    """What the user types; the options of the tiny run stand in an args file, so that arguments can replace them."""
    options: dict[str, Any] = {
        "dataset_dir": str(folder / "cohort"),
        "output_dir": str(folder / "out"),
        "device": "cpu",
    }
    if config == "train":
        options |= TINY_MS | {"epochs": 1, "iterations_per_epoch": 1, "folds": 3}
        options |= {f"{name}_dir": str(folder / name) for name in ("store", "tissue", "rough")}
    (folder / "options.json").write_text(json.dumps(options))
    typed = [argument.replace("{}", str(folder)) for argument in arguments]
    files = ["--config_file", str(MS_LESION / f"{config}.json"), "--args_file", str(folder / "options.json")]
    return [*files, *typed]
