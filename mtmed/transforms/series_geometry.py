"""Where the slices of a DICOM series lie in the patient, and whether together they are a volume.

All vectors are those of DICOM: millimetres, growing to the left, the back and the head of the patient (LPS).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = ["SlicePlace", "arrange_slices", "require_one_plane"]

_ANGLE = 0.2  # degrees that planes and slices may be askew; the affine keeps those of the slices
_OFF = 0.1  # of the distance of slices, that a slice may lie off its regular place
_SAME = 1e-3  # sides of pixels that differ by a smaller share are the same
_RESAMPLE = "resample it with a converter that does so, such as dcm2niix, and use its .nii.gz"


@dataclass(frozen=True)
class SlicePlace:
    """Place of one slice.

    Attributes:
        path: its file.
        size: columns and rows.
        spacing: distances of neighbouring columns and of neighbouring rows, mm.
        corner: centre of the first pixel.
        columns: direction of growing columns, of length 1.
        rows: direction of growing rows, of length 1.
        thickness: mm; None if the header does not say it.
    """

    path: Path
    size: tuple[int, int]
    spacing: tuple[float, float]
    corner: NDArray[np.float64]
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    thickness: float | None = None


def require_one_plane(slices: Sequence[SlicePlace]) -> None:
    """Require that all slices have the size, the pixels and the orientation of the first one.

    Raises:
        InputError: naming the first that has not.
    """
    first = slices[0]
    remedy = "move it out of the folder, or export the series again"
    for one in slices[1:]:
        if one.size != first.size:
            found, expected = (f"{size[0]}x{size[1]}" for size in (one.size, first.size))
            problem = f"is {found} pixels, the first slice of its series ({first.path.name}) {expected}"
            raise InputError(one.path, problem, remedy)
        if not np.allclose(one.spacing, first.spacing, rtol=_SAME, atol=0):
            found, expected = (f"{side[0]:g} x {side[1]:g} mm" for side in (one.spacing, first.spacing))
            problem = f"has pixels of {found}, the first slice of its series ({first.path.name}) {expected}"
            raise InputError(one.path, problem, remedy)
        angle = max(_degrees_between(one.columns, first.columns), _degrees_between(one.rows, first.rows))
        if angle > _ANGLE:
            problem = f"is turned by {angle:.3g} degrees against the first slice of its series ({first.path.name})"
            raise InputError(one.path, problem, remedy)


def arrange_slices(folder: Path, slices: Sequence[SlicePlace]) -> tuple[list[int], NDArray[np.float64]]:
    """Sort the slices of a series along their normal, and require that they are evenly apart on a straight line.

    A slice may lie off its regular place by a tenth of the slices' distance, and the line may be askew to the planes by
    0.2 degrees, which the step then contains. One slice alone is as far from the next as it is thick.

    Args:
        folder: the series, for messages.
        slices: places, all of one plane (`require_one_plane`).

    Returns:
        Indices of the slices in their order, and the step from each to the next, mm.

    Raises:
        InputError: two slices lie at one place, some are missing between others, or they are unevenly apart or shifted
            against each other, all of them (a tilted gantry) or one.
    """
    first = slices[0]
    normal = np.cross(first.columns, first.rows)
    if len(slices) == 1:
        if not first.thickness:
            problem = "is a series of one slice without a thickness"
            raise InputError(folder, problem, "copy or download the whole series, or convert it to .nii.gz")
        return [0], normal * first.thickness
    corners = np.stack([one.corner for one in slices])
    heights = corners @ normal
    order = [int(index) for index in np.argsort(heights, kind="stable")]
    corners, heights = corners[order], heights[order]
    axis = _Axis(normal, corners, heights)
    distances = np.diff(heights)
    # of an even number the smaller one, so that it is one of them
    usual = float(np.sort(distances)[(len(distances) - 1) // 2])
    _refuse_doubles(folder, [slices[index] for index in order], distances, usual, axis)
    _refuse_tilt(folder, corners, heights, normal)
    _refuse_gaps(folder, distances, usual, axis)
    step: NDArray[np.float64] = (corners[-1] - corners[0]) / (len(corners) - 1)
    astray = corners - corners[0] - np.arange(len(corners))[:, None] * step
    along = np.abs(astray @ normal)
    across = np.linalg.norm(astray - (astray @ normal)[:, None] * normal, axis=1)
    allowed = _OFF * float(np.linalg.norm(step))
    if along.max() > allowed:
        problem = (
            f"has slices that are unevenly apart, by {distances.min():.4g} to {distances.max():.4g} mm: one lies "
            f"{along.max():.3g} mm off its regular place, {allowed:.2g} mm (a tenth of the distance) are allowed"
        )
        raise InputError(folder, problem, _RESAMPLE)
    if across.max() > allowed:
        worst = slices[order[int(across.argmax())]]
        problem = f"lies {across.max():.3g} mm beside the line of the other slices, {allowed:.2g} mm are allowed"
        raise InputError(worst.path, problem, "move it out of the folder, or export the series again")
    return order, step


class _Axis:
    """How places along the normal are told: by x, y or z of DICOM where the slices lie straight."""

    def __init__(self, normal: NDArray[np.float64], corners: NDArray[np.float64], heights: NDArray[np.float64]) -> None:
        index = int(np.abs(normal).argmax())
        straight = _degrees_between(np.abs(normal), np.eye(3)[index]) <= _ANGLE
        self._values = corners[:, index] if straight else heights
        self._prefix, self._unit = (f"{'xyz'[index]}=", "mm") if straight else ("", "mm along their normal")

    def text(self, *indices: int) -> str:
        """Places of one slice or of several, ``z=12 and z=21 mm``."""
        return " and ".join(f"{self._prefix}{self._values[index]:.6g}" for index in indices) + f" {self._unit}"


def _refuse_doubles(
    folder: Path, slices: Sequence[SlicePlace], distances: NDArray[np.float64], usual: float, axis: _Axis
) -> None:
    doubled = np.flatnonzero(distances <= _OFF * usual)
    if not doubled.size:
        return
    index = int(doubled[0])
    names = f"{slices[index].path.name} and {slices[index + 1].path.name}"
    more = f", {len(doubled)} such pairs among {len(slices)} slices" if len(doubled) > 1 else ""
    problem = f"has two slices at {axis.text(index)} ({names}){more}"
    remedy = "leave one of each, or give every time point or echo a folder of its own"
    raise InputError(folder, problem, remedy)


def _refuse_tilt(
    folder: Path, corners: NDArray[np.float64], heights: NDArray[np.float64], normal: NDArray[np.float64]
) -> None:
    moved = corners[1:] - corners[0]
    risen = heights[1:] - heights[0]
    # the median of long distances: places are rounded, and one slice may be astray
    shear = np.median((moved - risen[:, None] * normal) / risen[:, None], axis=0)
    angle = float(np.degrees(np.arctan(np.linalg.norm(shear))))
    if angle > _ANGLE:
        problem = (
            f"has a gantry tilt: its slices are shifted {angle:.3g} degrees off their normal, {_ANGLE:g} are allowed"
        )
        raise InputError(folder, problem, _RESAMPLE)


def _refuse_gaps(folder: Path, distances: NDArray[np.float64], usual: float, axis: _Axis) -> None:
    gaps = np.flatnonzero(distances > 1.5 * usual)
    if not gaps.size or len(gaps) > max(1, len(distances) // 4):
        return  # so many are no gaps but uneven distances
    index = int(gaps[0])
    missing = int(np.rint(distances[gaps] / usual - 1).sum())
    more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
    between = f"{axis.text(index, index + 1)}{more}"
    problem = f"has a gap between {between}, slices are {usual:.4g} mm apart (about {missing} missing)"
    raise InputError(folder, problem, "copy or download the whole series again, or leave it out")


def _degrees_between(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    # exact for small angles, where the arc cosine is not
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)))
