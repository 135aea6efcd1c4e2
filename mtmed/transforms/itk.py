"""NRRD and MetaImage files, read through SimpleITK and turned to RAS.

SimpleITK does not compare the checksum of compressed voxels: of 100 flipped bits in a MetaImage file it read all as
other voxels. So compressed voxels are inflated here first, up to their checksum.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from mtmed.errors import InputError
from mtmed.transforms.nifti import (
    INFLATE_LIMIT,
    NiftiVolume,
    check_file,
    check_geometry,
    inflate_to_checksum,
    shape_text,
)

__all__ = ["ITK_SUFFIXES", "read_itk"]

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Endings of the files that `read_itk` reads."""

_NRRD = (".nrrd", ".nhdr")
_HEADER = 1 << 20  # bytes in which the header of a file that has the voxels too must end
_WIDEST = 8  # bytes of a value
_METAIMAGE_DIRECTIONS = (b"TransformMatrix", b"Orientation", b"Rotation")  # names of the same field


def read_itk(path: Path) -> NiftiVolume:
    """Read a 3D NRRD or MetaImage file; its LPS axes are turned to RAS.

    Raises:
        InputError: the file or the one with its voxels is missing or damaged, not 3D, its voxels are no real numbers,
            or they are compressed in several files, which cannot be verified; see `check_geometry`.
    """
    start, _ = check_file(path)
    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        _verify_compressed(path, reader.GetSize(), reader.GetNumberOfComponents())
        image = reader.Execute()
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
    if path.suffix.lower() in _NRRD:
        oriented = image.HasMetaDataKey("NRRD_space")
    else:
        oriented = any(name in start for name in _METAIMAGE_DIRECTIONS)
    notes = () if oriented else ("declares no directions of its axes, so its orientation is a guess",)
    return NiftiVolume(data, affine, spacing, {}, str(path), notes, oriented)


def _verify_compressed(path: Path, shape: Sequence[int], components: int) -> None:
    """Inflate the voxels up to their checksum, if they are compressed."""
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
    if path.suffix.lower() in _NRRD:
        end = re.search(rb"\r?\n\r?\n|\Z", head)
        text = head[: end.start()] if end else head
        encoding, other = _field(text, rb"encoding\s*:"), _field(text, rb"data ?file\s*:")
        compressed = encoding.lower() in ("gz", "gzip")
    else:
        end = re.search(rb"^ElementDataFile\s*=[^\n]*(?:\n|\Z)", head, re.MULTILINE)
        text = head[: end.end()] if end else head
        other = _field(text, rb"ElementDataFile\s*=")
        other = "" if other.upper() == "LOCAL" else other
        compressed = _field(text, rb"CompressedData\s*=").lower() == "true"
    if not compressed:
        return
    if "%" in other or other.split(" ")[0] == "LIST":
        problem = "has compressed voxels in several files, which cannot be verified"
        raise InputError(path, problem, "convert it to .nii.gz")
    voxels = path.parent / other if other else path
    check_file(voxels)
    raw = voxels.read_bytes()
    raw = raw if other or end is None else raw[end.end() :]
    values = math.prod(shape) * components
    if values > INFLATE_LIMIT * len(raw):
        problem = f"header claims {shape_text(shape)} voxels, more than the file can hold"
        raise InputError(path, problem, "copy or download the file again")
    inflate_to_checksum(voxels, raw, _WIDEST * values)


def _field(header: bytes, name: bytes) -> str:
    """Value of a field of a header, nothing if there is none."""
    found = re.search(rb"^" + name + rb"[ \t]*([^\r\n]*)", header, re.MULTILINE | re.IGNORECASE)
    return found[1].decode("latin-1").strip() if found else ""
