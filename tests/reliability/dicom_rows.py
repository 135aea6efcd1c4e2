"""Abdomens of which one is a DICOM series, as scanners and archives give it, and ways to spoil it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from abdomen_rows import list_as, spoil, trained
from catalogue import Prepare
from mixcl_inputs import image
from series_folder import Change, write_series

__all__ = ["SERIES", "place", "remove", "series", "trained_series", "write_abdomen_series"]

SERIES = "{}/cohort/images/1"
CORNER = (0.0, 0.0, 0.0)
_RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # columns grow to the right, rows to the front, as in the NIfTI files


def write_abdomen_series(folder: Path, number: int = 1, **options: Any) -> Path:
    """Replace an image by a series on its grid, of 32 slices 1 mm apart from z=0 on; see `write_series`."""
    path = folder / image(number)
    voxels = np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)
    path.unlink()
    given = {"spacing": (1.0, 1.0, 1.0), "orientation": _RAS, "origin": CORNER, "series": number, **options}
    list_as(folder, "image", f"images/{number}", number)
    return write_series(path.with_name(str(number)), voxels, **given)


def series(spoilt: Callable[[Path], Any] = lambda folder: None, **options: Any) -> Prepare:
    """Four abdomens, one of them as a series with something wrong or odd about it."""
    return spoil(lambda folder: spoilt(write_abdomen_series(folder, **options)))


def trained_series(spoilt: Callable[[Path], Any] = lambda folder: None, **options: Any) -> Prepare:
    """The same with the weights of a network that was never trained."""
    return trained(lambda folder: spoilt(write_abdomen_series(folder, **options)))


def remove(*numbers: int) -> Callable[[Path], None]:
    """Some slices were never copied."""

    def spoilt(folder: Path) -> None:
        for number in numbers:
            (folder / f"IM{number:04d}.dcm").unlink()

    return spoilt


def place(height: Callable[[int], float], shift: Callable[[int], float] = lambda index: 0.0) -> Change:
    """Each slice lies at this height, shifted by so much to the left, mm."""

    def change(index: int, header: Any) -> None:
        header.ImagePositionPatient = [shift(index), 0.0, height(index)]

    return change
