"""NRRD and MetaImage files, read through SimpleITK and turned to RAS."""

from pathlib import Path

import numpy as np
import SimpleITK

from mtmed.errors import InputError
from mtmed.transforms.nifti import NiftiVolume, check_file, check_geometry

__all__ = ["ITK_SUFFIXES", "read_itk"]

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings of the files that `read_itk` reads."""

_METAIMAGE_DIRECTIONS = (b"TransformMatrix", b"Orientation", b"Rotation")  # names of the same field


def read_itk(path: Path) -> NiftiVolume:
    """Read a 3D NRRD or MetaImage file; its LPS axes are turned to RAS.

    Raises:
        InputError: the file is missing or damaged, not 3D, or its voxels are no real numbers; see `check_geometry`.
    """
    start, _ = check_file(path)
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(path, f"cannot be read ({reason})", "copy or download the file again") from error
    if image.GetDimension() != 3:
        raise InputError(path, f"has {image.GetDimension()} dimensions, expected 3", "convert it to a 3D volume")
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    voxels = SimpleITK.GetArrayFromImage(image)
    data = np.swapaxes(voxels, 0, 2)
    if data.dtype.kind not in "iuf":
        raise InputError(path, f"voxels are {data.dtype}, expected real numbers", "convert it to int16 or float32")
    spacing = tuple(float(length) for length in image.GetSpacing())
    check_geometry(path, affine, spacing)
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        oriented = image.HasMetaDataKey("NRRD_space")
    else:
        oriented = any(name in start for name in _METAIMAGE_DIRECTIONS)
    notes = () if oriented else ("declares no directions of its axes, so its orientation is a guess",)
    return NiftiVolume(data, affine, spacing, {}, str(path), notes, oriented)
