"""Cohorts of tiny volumes for the data check."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mtmed.data.check import CheckReport, check_cases
from mtmed.data.manifest import load_cohort

__all__ = ["AFFINE", "SHAPE", "check", "image", "label", "save", "shifted"]

SHAPE = (12, 10, 8)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def save(path: Path, data: Any, affine: Any = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def label(*values: int) -> Any:
    data = np.zeros(SHAPE, np.uint8)
    for index, value in enumerate(values):
        data[index + 1] = value
    return data


def check(folder: Path, **options: Any) -> CheckReport:
    return check_cases(load_cohort(folder), **options)


def shifted(mm: float) -> Any:
    affine = AFFINE.copy()
    affine[0, 3] = mm
    return affine
