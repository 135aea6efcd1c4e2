"""X-rays in DICOM files, read through SimpleITK (GDCM). Scans of many slices are converted to NIfTI before.

DICOM has no checksum, so that damage inside compressed pixels may pass.
"""

import threading
from pathlib import Path

import numpy as np
import SimpleITK

from mtmed.errors import InputError
from mtmed.transforms.nifti import NiftiVolume, check_file, check_geometry
from mtmed.transforms.png import planar_affine

__all__ = ["DICOM_SUFFIXES", "read_dicom_image"]

DICOM_SUFFIXES = (".dcm", ".dicom")
"""Endings of the files that `read_dicom_image` reads."""

_MODALITY, _ORIENTATION, _FRAMES = "0008|0060", "0020|0037", "0028|0008"
_PIXEL_SPACING, _IMAGER_PIXEL_SPACING = "0028|0030", "0018|1164"
_X_RAY = ("CR", "DX", "MG", "IO", "PX", "RF", "RG", "XA")
_UNNAMED = ("OT", "")  # secondary captures: of X-rays, but also of slices

# GDCM does not promise to be used by several threads, which check data and fill stores
_gdcm = threading.Lock()


def read_dicom_image(path: str | Path) -> NiftiVolume:
    """Read one grey X-ray as a volume of one slice, (W, H, 1).

    Axes and affine are those of `mtmed.transforms.png.read_png`: x is the column, y the row. The spacing in mm is the
    header's pixel spacing, else the one at the detector (imager pixel spacing), else 1 mm, and a note says so. Air is
    dark: ``MONOCHROME1`` is inverted within the bits stored. The rescale slope and intercept are applied (then float32,
    unless both are whole numbers). Windows for display are not applied. Of the header nothing but the spacing is kept.

    Raises:
        InputError: the file is missing, damaged or no DICOM image; it has colours, several frames, or is a slice of a
            series: its modality is no X-ray's, or it names none and gives an orientation in the patient.
    """
    path = Path(path)
    check_file(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        with _gdcm:
            reader.ReadImageInformation()
            header = {key: reader.GetMetaData(key).strip(" \0") for key in _fields(reader)}
            _require_x_ray(path, header, reader)
            pixels = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(path, f"cannot be read as DICOM ({reason})", "copy or download the file again") from error
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
    spacing, notes = _spacing(path, header)
    affine = planar_affine(*spacing)
    check_geometry(path, affine, spacing)
    return NiftiVolume(pixels.reshape(pixels.shape[-2:]).T[..., None], affine, spacing, {}, str(path), notes, False)


def _fields(reader: SimpleITK.ImageFileReader) -> list[str]:
    wanted = (_MODALITY, _ORIENTATION, _FRAMES, _PIXEL_SPACING, _IMAGER_PIXEL_SPACING)
    return [key for key in wanted if reader.HasMetaDataKey(key)]


def _require_x_ray(path: Path, header: dict[str, str], reader: SimpleITK.ImageFileReader) -> None:
    modality = header.get(_MODALITY, "").upper()
    if modality not in (*_X_RAY, *_UNNAMED) or (modality in _UNNAMED and _ORIENTATION in header):
        problem = f"is a slice of a series ({modality or 'with an orientation'}), expected an X-ray"
        raise InputError(path, problem, "convert the whole series to one .nii.gz")
    size = reader.GetSize()
    if header.get(_FRAMES, "1") not in ("", "1") or any(side != 1 for side in size[2:]):
        frames = header.get(_FRAMES) or str(size[2])
        raise InputError(path, f"has {frames} frames, expected one image", "convert it to .nii.gz, or save one frame")
    if reader.GetNumberOfComponents() != 1:
        raise InputError(path, "has colours, expected a grey image", "convert it to grey, or leave it out")


def _spacing(path: Path, header: dict[str, str]) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Distances of neighbouring columns, rows and slices, mm, and a note if they are not given."""
    text = header.get(_PIXEL_SPACING) or header.get(_IMAGER_PIXEL_SPACING)
    if not text:
        return (1.0, 1.0, 1.0), ("declares no spacing, 1 mm is taken",)
    try:
        rows, columns = (float(number) for number in text.split("\\"))  # DICOM gives the distance of rows first
    except ValueError:
        problem = f"has the pixel spacing {text!r}"
        raise InputError(path, problem, "correct the header: two numbers in mm, rows and columns") from None
    return (columns, rows, 1.0), ()
