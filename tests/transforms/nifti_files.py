"""NIfTI files of random voxels."""

from pathlib import Path

import nibabel as nib
import numpy as np

__all__ = ["save"]


def save(path: Path, *, affine=None, dtype=np.int16, shape=(7, 6, 5), units="mm", seed=0) -> Path:
    voxels = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    image = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path
