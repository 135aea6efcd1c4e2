"""A tiny cohort of organs in CT, and settings so small that the MixCL bundle runs on it in a second.

The fixtures that use them (`cohorts`, `options`, `run_bundle`, `pretrained`) are in `conftest.py`.
"""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = ["SPACING", "TINY", "write_dataset"]

SPACING = (4.0, 4.0, 5.0)
TINY: dict[str, Any] = {
    "device": "cpu",
    # torch's bfloat16 gradients on CPU differ between runs for feature maps of a few voxels
    "precision": "float32",
    "patch_size": [32, 32, 16],
    "epochs": 2,
    "iterations_per_epoch": 2,
    "network_def#feature_size": 4,
    "network_def#hidden_size": 24,
    "network_def#mlp_dim": 48,
    "network_def#num_heads": 2,
}


def write_dataset(folder: Path, name: str, organs: tuple[str, ...], cases: int, seed: int) -> None:
    """Ellipsoids of several brightnesses in noise, HU."""
    generator, rows = np.random.default_rng(seed), []
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    shape = (36, 34, 20)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    for number in range(cases):
        image = generator.normal(-60, 15, shape)
        label = np.zeros(shape, np.uint8)
        for value in range(1, len(organs) + 1):
            centre = np.array([0.5 * np.cos(2 * value), 0.5 * np.sin(2 * value), 0]) + generator.normal(0, 0.05, 3)
            inside = ((grid - centre[:, None, None, None]) ** 2).sum(0) < 0.11
            image[inside], label[inside] = 40 + 50 * value + generator.normal(0, 8, inside.sum()), value
        affine = np.diag([*SPACING, 1.0])
        file = f"{name}_{number}.nii.gz"
        nib.Nifti1Image(image.round().astype(np.int16), affine).to_filename(folder / "imagesTr" / file)
        nib.Nifti1Image(label, affine).to_filename(folder / "labelsTr" / file)
        rows.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}", "patient": f"{name}{number}"})
    labels = {str(value): organ for value, organ in enumerate(("background", *organs))}
    content = {"name": name, "modality": {"0": "CT"}, "labels": labels, "training": rows, "test": []}
    (folder / "dataset.json").write_text(json.dumps(content))
