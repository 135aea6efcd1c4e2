"""X-rays in DICOM files. Slices of a series are read with their folder, see `mtmed.transforms.dicom_series`.

DICOM has no checksum, so that damage inside the pixels may pass.
"""

from pathlib import Path

from mtmed.errors import InputError
from mtmed.transforms.dicom_file import DicomFile
from mtmed.transforms.nifti import NiftiVolume, check_geometry
from mtmed.transforms.png import planar_affine

__all__ = ["DICOM_SUFFIXES", "read_dicom_image"]

DICOM_SUFFIXES = (".dcm", ".dicom")
"""Endings of the files that `read_dicom_image` reads."""

_PIXEL_SPACING, _IMAGER_PIXEL_SPACING = "0028|0030", "0018|1164"


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
    file = DicomFile(path, (_PIXEL_SPACING, _IMAGER_PIXEL_SPACING))
    if file.is_slice:
        problem = f"is a slice of a series ({file.modality or 'with an orientation'}), expected an X-ray"
        raise InputError(path, problem, "name the folder with all slices of the series, or convert it to one .nii.gz")
    file.require_one_grey_image()
    spacing, notes = _spacing(file)
    affine = planar_affine(*spacing)
    check_geometry(file.path, affine, spacing)
    return NiftiVolume(file.pixels().T[..., None], affine, spacing, {}, str(path), notes, False)


def _spacing(file: DicomFile) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Distances of neighbouring columns, rows and slices, mm, and a note if they are not given."""
    text = file.fields.get(_PIXEL_SPACING) or file.fields.get(_IMAGER_PIXEL_SPACING)
    if not text:
        return (1.0, 1.0, 1.0), ("declares no spacing, 1 mm is taken",)
    try:
        rows, columns = (float(number) for number in text.split("\\"))  # DICOM gives the distance of rows first
    except ValueError:
        problem = f"has the pixel spacing {text!r}"
        raise InputError(file.path, problem, "correct the header: two numbers in mm, rows and columns") from None
    return (columns, rows, 1.0), ()
