"""A cohort of four abdomens and weights files of mixcl with something wrong or odd about them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from mtmed.networks import build_network

__all__ = [
    "SETTINGS",
    "TINY",
    "Prepare",
    "add_row",
    "change_manifest",
    "damage_checksum",
    "image",
    "label",
    "network",
    "rewrite",
    "split_a_patient",
    "truncate",
    "with_voxel",
    "write_abdomens",
    "write_json",
]

NETWORK = {"feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2}
TINY = {
    "epochs": 1,
    "iterations_per_epoch": 1,
    "batch_size": 1,
    "patch_size": [32, 32, 32],
    "spacing": [1.0, 1.0, 1.0],
    **{f"network_def#{key}": value for key, value in NETWORK.items()},
}
SETTINGS = {
    "label_names": {"0": "background", "1": "liver", "2": "spleen"},
    "modalities": ["CT"],
    "spacing": [1.0, 1.0, 1.0],
    "window": [-150.0, 250.0],
    "patch_size": [32, 32, 32],
}
Prepare = Callable[[Path], Any]


def image(number: int) -> Path:
    return Path(f"cohort/images/{number}.nii.gz")


def label(number: int) -> Path:
    return Path(f"cohort/labels/{number}.nii.gz")


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    """Replace the voxels of a NIfTI file."""
    volume = nib.load(path)
    data = change(np.asarray(volume.dataobj))
    nib.Nifti1Image(data, volume.affine if affine is None else affine).to_filename(path)


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "cohort" / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def with_voxel(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(data: np.ndarray) -> np.ndarray:
        data = data.astype(np.float32)
        data[3, 4, 5] = value
        return data

    return change


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # the last 8 bytes are checksum and length
    path.write_bytes(content)


def add_row(folder: Path, **row: Any) -> None:
    change_manifest(folder, lambda content: content["training"].append(row))


def split_a_patient(content: dict[str, Any]) -> None:
    for row, fold in zip(content["training"], (0, 1, 0, 1), strict=True):
        row["fold"] = fold
    content["training"][1]["patient"] = content["training"][0]["patient"]


def network(**changed: Any) -> torch.nn.Module:
    definition = {"_target_": "mtmed.networks.UNETR", "in_channels": 1, "out_channels": 3, "img_size": [32, 32, 32]}
    return build_network({**definition, **NETWORK, **changed})


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


def write_abdomens(folder: Path) -> None:
    """Four patients under ``cohort``, labelled liver and spleen, 32 x 32 x 32 voxels of 1 mm."""
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / "cohort" / part).mkdir(parents=True)
    rows = []
    for number in range(4):
        organs = np.zeros((32, 32, 32), np.uint8)
        organs[4:16, 4:28, 4:28] = 1
        organs[18:28, 8:20, 8 + number : 20] = 2
        scan = (40.0 * organs + random.normal(0, 5, organs.shape)).astype(np.int16)
        nib.Nifti1Image(scan, np.eye(4)).to_filename(folder / image(number))
        nib.Nifti1Image(organs, np.eye(4)).to_filename(folder / label(number))
        rows.append(
            {"image": f"images/{number}.nii.gz", "label": f"labels/{number}.nii.gz", "patient": f"patient{number}"}
        )
    names = {"0": "background", "1": "liver", "2": "spleen"}
    write_json(
        folder / "cohort" / "dataset.json",
        {"name": "Toy", "modality": {"0": "CT"}, "labels": names, "training": rows, "test": []},
    )
