"""How many slices a cohort has, before any voxel is read."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
from nibabel.filebasedimages import ImageFileError

from mtmed.data.case import Case
from mtmed.errors import InputError
from mtmed.transforms.dicom import DICOM_SUFFIXES
from mtmed.transforms.dicom_folder import dicom_files
from mtmed.transforms.dicom_series import series_axes
from mtmed.transforms.reading import read_volume
from mtmed.transforms.slice_stack import slice_files

__all__ = ["slices_of_cases"]

_SUPERIOR = 2  # axis of RAS+ coordinates along which axial slices follow each other


def slices_of_cases(cases: Sequence[Case]) -> int:
    """Number of axial slices of the first images of some cases, from file names and headers.

    It decides how many iterations are one pass over the data, which must be known before the data are prepared.

    Raises:
        InputError: naming an image that cannot be read.
    """
    return sum(_slices(case.images[0]) for case in cases)


def _slices(path: str) -> int:
    if dicom_files(path):
        shape, affine = series_axes(path)
        return _along_superior(path, affine, shape)
    if Path(path).is_dir():
        return len(slice_files(Path(path)))
    if path.lower().endswith((".png", *DICOM_SUFFIXES)):
        return 1
    if not path.lower().endswith((".nii", ".nii.gz")):
        volume = read_volume(path)
        return _along_superior(path, volume.affine, volume.data.shape)
    try:
        image = nib.load(path)
        return _along_superior(path, image.affine, image.shape)
    except InputError:
        raise
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise InputError(path, f"cannot be read ({error})", "copy or download the file again") from error


def _along_superior(path: str, affine: object, shape: Sequence[int]) -> int:
    if len(shape) < 3:
        found = "x".join(map(str, shape))
        raise InputError(path, f"is {len(shape)}D ({found}), expected 3D", "write it as a volume of one slice")
    axes = nib.orientations.io_orientation(affine)[:, 0].astype(int).tolist()
    return int(shape[axes.index(_SUPERIOR)])
