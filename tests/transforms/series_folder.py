"""Small CT and MR series as folders of DICOM files, for tests; written by pydicom, read by GDCM."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

__all__ = ["AXIAL", "CORONAL", "SAGITTAL", "Change", "compress", "oblique", "turned", "write_series", "write_slice"]

Change = Callable[[int, Dataset], object]

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # directions of growing columns and rows, LPS
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

_STORAGE = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_ROOT = "1.2.826.0.1.3680043.8.498"  # for instances of no importance


def oblique(degrees: tuple[float, float, float]) -> tuple[float, ...]:
    """Directions of columns and rows after turns about x, y and z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn, (first, second) = np.eye(3), [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return (*matrix[:, 0].tolist(), *matrix[:, 1].tolist())


def turned(orientation: Sequence[float], degrees: float) -> tuple[float, ...]:
    """Directions of columns and rows after a turn about the columns' direction, as a tilted gantry gives them."""
    columns, rows = np.array(orientation[:3]), np.array(orientation[3:])
    angle = np.radians(degrees)
    return (*orientation[:3], *(np.cos(angle) * rows + np.sin(angle) * np.cross(columns, rows)).tolist())


def write_series(
    folder: Path,
    voxels: NDArray[np.int16],
    *,
    spacing: tuple[float, float, float] = (0.8, 0.7, 3.0),
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-20.5, -31.25, 12.0),
    step: Sequence[float] | None = None,
    modality: str = "CT",
    slope: float = 1.0,
    intercept: float = 0.0,
    series: int = 1,
    name: str = "IM{:04d}.dcm",
    change: Change = lambda index, header: None,
) -> Path:
    """Write stored values (slice, row, column), slice by slice along the normal of the plane; gives the folder.

    Args:
        folder: where to.
        voxels: what is stored; the slope and the intercept of the header belong to it.
        spacing: distances of columns, rows and slices, mm.
        orientation: directions of growing columns and rows, LPS.
        origin: place of the first voxel of the first slice, LPS mm.
        step: from slice to slice, LPS mm; None: along the normal.
        modality: CT or MR.
        slope: of the intensities.
        intercept: of the intensities.
        series: number that makes its UID.
        name: of the files, by slice.
        change: is shown index and header of each slice before it is written.
    """
    normal = np.cross(orientation[:3], orientation[3:])
    along = spacing[2] * normal if step is None else np.asarray(step)
    for index, pixels in enumerate(voxels):
        header = Dataset()
        header.Modality = modality
        header.SeriesInstanceUID = f"{_ROOT}.{series}"
        header.StudyInstanceUID = _ROOT
        header.SOPInstanceUID = f"{_ROOT}.{series}.{index + 1}"
        header.InstanceNumber = str(index + 1)
        header.ImagePositionPatient = [f"{value:.6f}" for value in np.asarray(origin) + index * along]
        header.ImageOrientationPatient = [f"{value:.9f}" for value in orientation]
        header.PixelSpacing = [str(spacing[1]), str(spacing[0])]
        header.SliceThickness = str(spacing[2])
        header.RescaleSlope, header.RescaleIntercept = str(slope), str(intercept)
        change(index, header)
        write_slice(folder / name.format(index + 1), pixels, header)
    return folder


def write_slice(path: Path, pixels: NDArray[np.int16], header: Dataset) -> Path:
    """Write one file; what its header already says stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = _STORAGE.get(header.get("Modality"), _STORAGE["CT"])
    meta.MediaStorageSOPInstanceUID = header.get("SOPInstanceUID", _ROOT)
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.PhotometricInterpretation = "MONOCHROME2"
    file.SamplesPerPixel = 1
    file.Rows, file.Columns = pixels.shape
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit = 15
    file.PixelRepresentation = 1
    file.PixelData = np.ascontiguousarray(pixels, "<i2").tobytes()
    file.update(header)
    file.save_as(path, enforce_file_format=True)
    return path


def compress(path: Path) -> Path:
    """Run-length encode the pixels of a file, which GDCM reads from about 16 x 16 pixels on."""
    file = dcmread(path)
    file.compress(RLELossless)
    file.save_as(path)
    return path
