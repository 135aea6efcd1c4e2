"""Slices of a CT or MR series in DICOM files, ``case7/IM0001.dcm``, as one volume.

DICOM has no checksum, so that damage inside the pixels may pass.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.dicom_file import DicomFile
from mtmed.transforms.dicom_folder import dicom_files
from mtmed.transforms.nifti import NiftiVolume, check_geometry
from mtmed.transforms.series_geometry import SlicePlace, arrange_slices, require_one_plane

__all__ = ["read_dicom_series", "series_axes"]

_SERIES, _THICKNESS = "0020|000e", "0018|0050"
_POSITION, _ORIENTATION, _PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"
_NAMES = {
    _POSITION: "position in the patient (ImagePositionPatient)",
    _ORIENTATION: "orientation in the patient (ImageOrientationPatient)",
    _PIXEL_SPACING: "spacing of its pixels (PixelSpacing)",
}
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SQUARE = 1e-3  # cosine of directions that are perpendicular, and how much their length may miss 1


def read_dicom_series(folder: str | Path) -> NiftiVolume:
    """Read the DICOM slices in a folder as one volume (columns, rows, slices).

    Slices are placed by their position and orientation in the patient and sorted along their normal (the direction of
    growing columns x that of growing rows); names, numbers and slice locations do not count. The rescale slope and
    intercept of each slice are applied: integers where all are whole numbers, else float32. One slice alone is a volume
    whose third spacing is its thickness, and a note says so. Of the headers nothing but the geometry is kept.

    Raises:
        InputError: the folder holds no DICOM file, slices of several series, or other images than slices; a slice is
            damaged, of several frames, coloured, or has no place in the patient; slices differ in size, pixels or
            orientation, lie at one place, are unevenly apart or shifted against each other (a tilted gantry), or some
            are missing between others. Tolerances: `mtmed.transforms.series_geometry.arrange_slices`.
    """
    folder = Path(folder)
    files, affine, notes = _arranged(folder)
    columns, rows = files[0].size
    spacing = tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    first = files[0].pixels()
    voxels = np.empty((len(files), rows, columns), first.dtype)
    for index, file in enumerate(files):
        pixels = file.pixels() if index else first
        if pixels.dtype != voxels.dtype:  # slopes and intercepts differ
            common = np.result_type(pixels.dtype, voxels.dtype)
            voxels = voxels.astype(np.float32 if common.kind == "f" else common)
        voxels[index] = pixels
    return NiftiVolume(voxels.T, affine, spacing, {}, str(folder), notes)


def series_axes(folder: str | Path) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Voxels along the axes of a series (columns, rows, slices), and where these point, as told by its first file.

    For counting before anything is read: nothing is checked, and the affine (voxel to RAS+) has neither origin nor
    spacing.

    Raises:
        InputError: the first file is damaged or has no place in the patient.
    """
    paths = dicom_files(folder)
    if not paths:
        raise _no_files(Path(folder))
    first = _place(_opened(paths[0]))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([first.columns, first.rows, np.cross(first.columns, first.rows)], axis=1)
    return (*first.size, len(paths)), _TO_RAS @ affine


def _arranged(folder: Path) -> tuple[list[DicomFile], NDArray[np.float64], tuple[str, ...]]:
    """The slices in their order, the affine, and notes."""
    paths = dicom_files(folder)
    if not paths:
        raise _no_files(folder)
    files = [_opened(path) for path in paths]
    _require_one_series(folder, files)
    for file in files:
        if not file.is_slice:
            problem = "is no slice of a series (X-ray, or a picture without a place in the patient)"
            raise InputError(file.path, problem, "move it out of the folder, or name it as an image of its own")
        file.require_one_grey_image()
    slices = [_place(file) for file in files]
    require_one_plane(slices)
    order, step = arrange_slices(folder, slices)
    first = slices[order[0]]
    affine = np.eye(4)
    affine[:3, 0] = first.columns * first.spacing[0]
    affine[:3, 1] = first.rows * first.spacing[1]
    affine[:3, 2] = step
    affine[:3, 3] = first.corner
    affine = _TO_RAS @ affine
    check_geometry(folder, affine, [float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)])
    notes = (f"is a series of one slice; its thickness of {first.thickness:g} mm is taken",) if len(files) == 1 else ()
    return [files[index] for index in order], affine, notes


def _opened(path: Path) -> DicomFile:
    return DicomFile(path, (_SERIES, _THICKNESS, *_NAMES))


def _no_files(folder: Path) -> InputError:
    return InputError(folder, "has no DICOM files", "name a folder of slices")


def _require_one_series(folder: Path, files: Sequence[DicomFile]) -> None:
    series: dict[str, list[DicomFile]] = {}
    for file in files:
        series.setdefault(file.fields.get(_SERIES, ""), []).append(file)
    if len(series) == 1:
        return
    # told by their first files: the names that headers give to series may hold the patient's
    parts = [f"{len(members)} from {members[0].path.name}" for members in series.values()]
    listed = ", ".join(parts[:5]) + (f" and {len(parts) - 5} more" if len(parts) > 5 else "")
    problem = f"holds slices of {len(series)} series ({listed})"
    raise InputError(folder, problem, "give every series a folder of its own")


def _place(file: DicomFile) -> SlicePlace:
    corner, directions = _numbers(file, _POSITION, 3), _numbers(file, _ORIENTATION, 6)
    between_rows, between_columns = _numbers(file, _PIXEL_SPACING, 2)  # DICOM gives the distance of rows first
    columns, rows = directions[:3], directions[3:]
    lengths = float(np.linalg.norm(columns)), float(np.linalg.norm(rows))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(columns @ rows))) > _SQUARE:
        problem = "has directions of columns and rows (ImageOrientationPatient) that are not perpendicular"
        raise InputError(file.path, problem, "export the series again with its geometry")
    if min(between_rows, between_columns) <= 0:
        problem = f"has pixels of {between_columns:g} x {between_rows:g} mm"
        raise InputError(file.path, problem, "export the series again with its geometry")
    return SlicePlace(
        path=file.path,
        size=file.size,
        spacing=(float(between_columns), float(between_rows)),
        corner=corner,
        columns=columns / lengths[0],
        rows=rows / lengths[1],
        thickness=_thickness(file),
    )


def _numbers(file: DicomFile, field: str, count: int) -> NDArray[np.float64]:
    text = file.fields.get(field, "")
    remedy = "export the series again with its geometry, or leave it out"
    if not text:
        raise InputError(file.path, f"has no {_NAMES[field]}", remedy)
    try:
        numbers = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(file.path, f"has a {_NAMES[field]} that is not {count} numbers", remedy)
    return numbers


def _thickness(file: DicomFile) -> float | None:
    try:
        thickness = float(file.fields.get(_THICKNESS, ""))
    except ValueError:
        return None
    return thickness if np.isfinite(thickness) and thickness > 0 else None
