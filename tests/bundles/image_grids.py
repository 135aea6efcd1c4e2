"""Images on grids of every orientation, and their voxels."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

__all__ = ["GEOMETRIES", "affine_of", "as_slices", "turned", "turned_back", "voxels", "write"]


def voxels(path: str | Path) -> NDArray[Any]:
    return np.asarray(nib.load(path).dataobj)


def as_slices(array: NDArray[Any]) -> NDArray[Any]:
    """From (columns, rows, slices) of a written file to slices, rows, columns."""
    return array.transpose(2, 1, 0)


def affine_of(axes: str, spacing: tuple[float, float, float], angle: float = 0.0) -> NDArray[np.float64]:
    """Affine of arrays whose axes grow to the given sides, turned about the head-feet axis and tilted by the half."""
    turn, tilt = np.eye(3), np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilt[1:, 1:] = [[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]]
    directions = np.array([[a == "R", a == "A", a == "S"] for a in axes], float)
    directions -= np.array([[a == "L", a == "P", a == "I"] for a in axes], float)
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ directions.T * np.asarray(spacing)
    affine[:3, 3] = (-31.0, 12.5, 70.0)
    return affine


GEOMETRIES = {
    "as_png_slices": affine_of("LPS", (3.5, 3.5, 3.0)),
    "slices_first": affine_of("SPL", (7.0, 3.5, 3.0)),
    "ras": affine_of("RAS", (1.5, 1.6, 3.0)),
    "mirrored": affine_of("RAI", (4.1, 3.9, 5.0)),
    "rows_before_columns": affine_of("PLI", (2.0, 3.0, 8.0)),
    "oblique": affine_of("LPS", (2.0, 2.5, 5.0), angle=0.3),
}


def turned(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """An array S P L in the axes of an affine."""
    spl = nib.orientations.axcodes2ornt(("S", "P", "L"))
    own = nib.orientations.io_orientation(affine)
    return np.asarray(nib.orientations.apply_orientation(array, nib.orientations.ornt_transform(spl, own)))


def turned_back(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """The array S P L again."""
    own = nib.orientations.io_orientation(affine)
    spl = nib.orientations.axcodes2ornt(("S", "P", "L"))
    return np.asarray(nib.orientations.apply_orientation(array, nib.orientations.ornt_transform(own, spl)))


def write(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return str(path)
