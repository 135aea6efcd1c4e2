"""One DICOM file, its header first and then its pixels, through SimpleITK (GDCM)."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.dicom_pixels import check_pixel_data
from mtmed.transforms.inflation import require_bounded_dicom, require_pixel_count
from mtmed.transforms.nifti import check_file

__all__ = ["DicomFile"]

_MODALITY, _ORIENTATION = "0008|0060", "0020|0037"
_FRAMES, _SAMPLES, _BITS = "0028|0008", "0028|0002", "0028|0100"
_X_RAY = ("CR", "DX", "MG", "IO", "PX", "RF", "RG", "XA")
_UNNAMED = ("OT", "")  # secondary captures: of X-rays, but also of slices

# GDCM does not promise to be used by several threads, which check data and fill stores
_gdcm = threading.Lock()


class DicomFile:
    """A file whose header has been read.

    Nothing of the header is kept but the fields that are asked for and what tells X-rays from slices.

    Args:
        path: the file.
        fields: what to keep of the header, ``"0020|0032"`` for example.

    Attributes:
        path: the file.
        fields: text of those fields that the header has.
        modality: ``"CT"``, ``"CR"``, ...; empty if it is not said.
        is_slice: whether it belongs to a series of slices: its modality is no X-ray's, or it names none and gives an
            orientation in the patient.
        size: columns and rows.

    Raises:
        InputError: the file is missing, damaged or no DICOM image.
    """

    def __init__(self, path: str | Path, fields: Sequence[str]) -> None:
        self.path = Path(path)
        check_file(self.path)
        require_bounded_dicom(self.path)
        self._reader = SimpleITK.ImageFileReader()
        self._reader.SetImageIO("GDCMImageIO")
        self._reader.SetFileName(str(path))
        wanted = (_MODALITY, _ORIENTATION, _FRAMES, _SAMPLES, _BITS, *fields)
        try:
            with _gdcm:
                self._reader.ReadImageInformation()
                known = {key for key in wanted if self._reader.HasMetaDataKey(key)}
                header = {key: self._reader.GetMetaData(key).strip(" \0") for key in known}
        except RuntimeError as error:
            raise self._damaged() from error
        self.fields = {key: header[key] for key in fields if key in header}
        self.modality = header.get(_MODALITY, "").upper()
        named = self.modality not in _UNNAMED
        self.is_slice = self.modality not in _X_RAY if named else _ORIENTATION in header
        sides = self._reader.GetSize()
        self.size = (int(sides[0]), int(sides[1]))
        self._frames = header.get(_FRAMES) or str(sides[2] if len(sides) > 2 else 1)
        self._depth = header.get(_BITS, ""), header.get(_SAMPLES, "")

    def require_one_grey_image(self) -> None:
        """Require one frame and one number per pixel.

        Raises:
            InputError: otherwise.
        """
        if self._frames != "1" or any(side != 1 for side in self._reader.GetSize()[2:]):
            problem = f"has {self._frames} frames, expected one image"
            raise InputError(self.path, problem, "convert it to .nii.gz, or save one frame")
        if self._reader.GetNumberOfComponents() != 1:
            problem = "has colours, expected a grey image"
            raise InputError(self.path, problem, "convert it to grey, or leave it out")

    def pixels(self) -> NDArray[Any]:
        """Read the pixels (rows, columns), with slope and intercept applied.

        Then float32, unless both are whole numbers. ``MONOCHROME1`` is inverted within the bits stored.

        Raises:
            InputError: they are damaged or end early.
        """
        require_pixel_count(self.path, *self.size)
        bits, samples = (int(text) if text.isdecimal() else 1 for text in self._depth)
        check_pixel_data(self.path, self.size[0] * self.size[1] * samples * bits // 8)
        try:
            with _gdcm:
                pixels = SimpleITK.GetArrayFromImage(self._reader.Execute())
        except RuntimeError as error:
            raise self._damaged() from error
        image: NDArray[Any] = pixels.astype(np.float32) if pixels.dtype.kind == "f" else pixels
        return image.reshape(image.shape[-2:])

    def _damaged(self) -> InputError:
        problem = "cannot be read as DICOM: it is damaged, ends early or is no image"
        return InputError(self.path, problem, "copy or download the file again, or leave it out")
