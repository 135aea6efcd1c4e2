"""Cohorts of kidneys and encoders with something wrong or odd about them, for tests of what a bundle does then."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from siamese_kidney_runs import tiny_options, write_kidneys

from mtmed.bundle import patient_digests
from mtmed.data import load_cohort
from mtmed.networks import build_network, save_encoder

__all__ = [
    "FROM_ENCODER",
    "PATIENTS",
    "Prepare",
    "change_manifest",
    "cohort",
    "encoder",
    "image_file",
    "label_file",
    "options",
    "rewrite",
    "spoil",
    "without_geometry",
]

Prepare = Callable[[Path], Any]
FROM_ENCODER = {"pretrained": "{}/encoder.pt"}
PATIENTS = 6


def image_file(case: int) -> Path:
    return Path(f"cohort/data/case_{case:05d}/imaging.nii.gz")


def label_file(case: int) -> Path:
    return Path(f"cohort/data/case_{case:05d}/segmentation.nii.gz")


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the voxels of a NIfTI file."""
    volume = nib.load(path)
    nib.Nifti1Image(change(np.asarray(volume.dataobj)), volume.affine).to_filename(path)


def without_geometry(path: Path) -> None:
    """Neither sform nor qform, as of a file whose arrays could lie in any way."""
    volume = nib.load(path)
    volume.set_sform(None, code=0)
    volume.set_qform(None, code=0)
    nib.Nifti1Image(np.asarray(volume.dataobj), None, volume.header).to_filename(path)


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "cohort" / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cohort(**more: Any) -> Prepare:
    """Another cohort in place of the good one."""
    return lambda folder: write_kidneys(folder / "cohort", **more)


def encoder(**more: Any) -> Prepare:
    """A good cohort and an ``encoder.pt`` that was never trained; ``seen`` names patients that it knows."""

    def prepare(folder: Path) -> None:
        write_kidneys(folder / "cohort", cases=PATIENTS)
        definition = {"_target_": "mtmed.networks.DenseUNet", "in_channels": 1, "out_channels": 2}
        small = {"block_layers": [1, 1, 1, 1], "growth": [4, 4, 4, 4], **more.get("network", {})}
        cases = [case for case in load_cohort(folder / "cohort").cases if case.group in more.get("seen", ())]
        settings = {
            "modalities": ["CT"],
            "spacing": [8.0, 8.0, 10.0],
            "window": [-80.0, 300.0],
            "label_groups": {"kidney": ["kidney", "tumour"]},
            "proxy": "masked",
            "labels_of": patient_digests(cases),
            "trained_on": patient_digests(cases),
            **more.get("settings", {}),
        }
        save_encoder(folder / "encoder.pt", build_network({**definition, **small}), settings)

    return prepare


def spoil(change: Prepare) -> Prepare:
    """A good cohort with one thing changed."""

    def prepare(folder: Path) -> None:
        write_kidneys(folder / "cohort", cases=PATIENTS)
        change(folder)

    return prepare


def options(stage: str, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a tiny run on the folder's cohort; ``{}`` in a text stands for the folder."""
    data = {"data": str(folder / "cohort"), "store": str(folder / "store")}
    whole = tiny_options(stage, data, output_dir=str(folder / "out"), epochs=1, **given)
    return {key: value.replace("{}", str(folder)) if isinstance(value, str) else value for key, value in whole.items()}
