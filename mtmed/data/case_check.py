"""Reading one case as training would, and noting everything that would stop or spoil it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mtmed.data.case import Case
from mtmed.data.contrast_order import contrast_warnings
from mtmed.data.label_values import count_organs, count_values, label_problem
from mtmed.data.pairing_hints import image_sample, label_brightness
from mtmed.errors import InputError
from mtmed.transforms.ras import axis_codes
from mtmed.transforms.reading import (
    NiftiVolume,
    OtherGrids,
    check_orientation,
    check_same_grid,
    read_label,
    read_volume,
)
from mtmed.transforms.resampling import check_overlap

__all__ = ["CaseCheck"]

_SAME = 1e-3  # voxels, label values and cosines that differ less are the same
_LITTLE = 0.5  # share of a field of view


class CaseCheck:
    """What is wrong with one case and what was learnt of it.

    Attributes:
        case: the case.
        same_affine: whether affines that differ are an error.
        other_grids: ``"resample"`` if files on other grids are brought to the first image's: then they are a notice,
            and an error only if the fields of view share nothing.
        require_orientation: whether a file that declares no orientation is an error; else it is a notice.
        errors: one line per problem, naming the file.
        notices: oddities that are handled, without the name of the case.
        shape: voxels along each axis of the first image; None if it cannot be read.
        spacing: distance of neighbouring voxels along each axis, mm.
        affine: voxel index to RAS+ millimetres, 4 x 4.
        axes: where the first image's axes point by its affine, ``"RAS"`` for example; None if it declares no
            orientation.
        voxels: number of voxels of each label value; of each organ, if masks may overlap.
        hashes: of the voxels of each image, by path.
        extremes: lowest and highest voxel of each image.
        brightness: of each label value in the image, see `mtmed.data.pairing_hints`.
    """

    def __init__(
        self,
        case: Case,
        *,
        same_affine: bool = True,
        other_grids: OtherGrids = "refuse",
        require_orientation: bool = False,
    ) -> None:
        self.case = case
        self.same_affine = same_affine
        self.other_grids = other_grids
        self.require_orientation = require_orientation
        self.errors: list[str] = []
        self.notices: list[str] = []
        self.shape: tuple[int, ...] | None = None
        self.spacing: tuple[float, ...] | None = None
        self.affine: NDArray[np.float64] = np.eye(4)
        self.axes: str | None = None
        self.voxels: dict[int, int] = {}
        self.hashes: dict[str, bytes] = {}
        self.extremes: list[tuple[float, float]] = []
        self.brightness: dict[int, float] = {}
        self._sample: tuple[NDArray[Any], int] | None = None

    def run(self, modalities: Sequence[str], names: Mapping[int, str] | None, *, overlapping: bool = False) -> None:
        """Read and check all files of the case, each once.

        Args:
            modalities: names of the image channels, all of which one 4D file may hold.
            names: names of the label values; None: any whole number passes.
            overlapping: labels are packed masks (`mtmed.organ_masks`), and the names those of their bits.
        """
        first = self._check_images(modalities)
        for rater, path in enumerate(self.case.labels):
            if first is None and path.lower().endswith(".csv"):
                continue  # masks are rows for the slices of the image, of which it is known what is wrong
            label = self._read(path, 1, partial(read_label, image=first))
            if label is not None:
                self._check_grid(first, label)
                self._check_label(label, names, rater, overlapping=overlapping)
        for name, path in self.case.maps.items():
            volume = self._read(path, 1, partial(read_label, image=first))
            if volume is not None:
                self._check_grid(first, volume)
                self._whole_numbers(volume, name)

    def _check_images(self, modalities: Sequence[str]) -> NiftiVolume | None:
        """Check all images; gives the grid of the first one that can be read."""
        first: NiftiVolume | None = None
        several = len(self.case.image) > 1
        for index, path in enumerate(self.case.image):
            name = modalities[index] if index < len(modalities) else f"image {index + 1}"
            if path is None:
                self.notices.append(f"has no {name}")
                continue
            volume = self._read(path, 1 if several else len(modalities))
            if volume is None:
                continue
            self._check_image(volume)
            if several and volume.path in self.hashes:
                self.notices.extend(contrast_warnings({name.upper(): volume.data}, spacing=volume.spacing))
            if first is None:
                self._sample = image_sample(volume.data)
                first = _without_voxels(volume)
                self.shape, self.spacing, self.affine = volume.data.shape[:3], volume.spacing[:3], volume.affine
                self.axes = axis_codes(volume.affine) if volume.oriented else None
                if _is_sheared(volume.affine):
                    self.notices.append("has a sheared affine; it is resampled to straight axes")
            else:
                self._check_grid(first, volume)
        return first

    def note_window(self, window: Sequence[float] | None) -> None:
        """Say so if an image has no voxel within the window that intensities are clipped to."""
        if window is None:
            return
        low, high = window
        if any(highest < low or lowest > high for lowest, highest in self.extremes):
            self._note(f"has no intensity within the window from {low:g} to {high:g}; all of it would look alike")

    def note_small(self, patch_size: Sequence[int] | None, spacing: Sequence[float] | None) -> None:
        """Say so if the volume is smaller than the patch once its axes are R, A, S and it is resampled."""
        if patch_size is None or self.shape is None or self.spacing is None:
            return
        shape = [0, 0, 0]
        for axis, target in enumerate(nib.orientations.io_orientation(self.affine)[:, 0].astype(int)):
            scale = self.spacing[axis] / spacing[target] if spacing is not None else 1.0
            shape[target] = max(round(self.shape[axis] * scale), 1)
        if any(have < want for have, want in zip(shape, patch_size, strict=True)):
            wanted = "x".join(map(str, patch_size))
            self.notices.append(f"is smaller than the patch of {wanted} voxels; it is padded with zeros")

    def _fail(self, path: str, problem: str, remedy: str) -> None:
        self.errors.append(str(InputError(path, problem, remedy)))

    def _read(self, path: str, channels: int, read: Callable[[str], NiftiVolume] = read_volume) -> NiftiVolume | None:
        try:
            volume = read(path)
            if self.require_orientation and (self.same_affine or self.shape is None):
                check_orientation(volume)
        except InputError as error:
            self.errors.append(str(error))
            return None
        for note in volume.notes:
            self._note(note)
        shape = volume.data.shape
        if (len(shape) == 3 and channels == 1) or (len(shape) == 4 and shape[3] == channels):
            return volume
        found, wanted = "x".join(map(str, shape)), "3D" if channels == 1 else f"4D with {channels} channels"
        self._fail(path, f"is {len(shape)}D ({found}), expected {wanted}", "extract the volume that is meant")
        return None

    def _check_image(self, volume: NiftiVolume) -> None:
        data, path = volume.data, volume.path
        if data.dtype.kind == "f":
            bad = ~np.isfinite(data)
            count = int(np.count_nonzero(bad))
            if count:
                index = tuple(int(i) for i in np.argwhere(bad)[0])
                problem = f"{count} voxels are NaN or infinite, the first at {index}"
                self._fail(path, problem, "export the image again, or leave the case out")
                return
        lowest, highest = data.min(), data.max()
        self.extremes.append((float(lowest), float(highest)))
        if lowest == highest:
            if min(data.shape[:3]) == 1:
                self._note(f"is one slice whose voxels are all {data.flat[0]:g}")
                return
            self._fail(path, f"all voxels are {data.flat[0]:g}", "export the image again, or leave the case out")
            return
        # the voxels and not the file, because packing the same image twice gives different bytes
        digest = hashlib.blake2b(str((data.shape, data.dtype.str)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(data.T).data)
        self.hashes[path] = digest.digest()

    def _check_grid(self, image: NiftiVolume | None, other: NiftiVolume) -> None:
        if image is None:
            return
        try:
            check_same_grid(image, other, same_affine=self.same_affine)
        except InputError as error:
            if self.other_grids == "refuse":
                self.errors.append(str(error))
            else:
                self._check_overlap(image, other)
            return
        if np.abs(image.affine - other.affine).max() > _SAME * min(image.spacing):
            fate = "less than a tenth of a voxel" if self.same_affine else "accepted; the image's affine is taken"
            self._note(f"has affines that differ between its files ({fate})")

    def _check_overlap(self, image: NiftiVolume, other: NiftiVolume) -> None:
        try:
            overlap = check_overlap(other, image)
        except InputError as error:
            self.errors.append(str(error))
            return
        self._note("has files on other grids than its first image; they are resampled onto it")
        if overlap < _LITTLE:
            self._note("has files that share less than half of their field of view with its first image")

    def _check_label(
        self, volume: NiftiVolume, names: Mapping[int, str] | None, rater: int, *, overlapping: bool
    ) -> None:
        data = self._whole_numbers(volume, "label")
        if data is None:
            return
        voxels = count_values(data)
        found = label_problem(voxels, names, overlapping=overlapping) if names is not None else None
        if rater == 0:
            self.voxels = count_organs(voxels) if overlapping and found is None else voxels
            if self._sample is not None:
                self.brightness = label_brightness(data, voxels, self._sample)
        where = f" in the label map of rater {rater + 1}" if rater else ""
        if found is not None:
            self._fail(volume.path, *found)
        elif set(voxels) <= {0}:
            self._note(f"has no foreground{where}")
        elif 0 not in voxels:
            self._note(f"has no background{where}")

    def _whole_numbers(self, volume: NiftiVolume, name: str) -> NDArray[Any] | None:
        """Voxels of a label map or another integer map as integers; None if they are none."""
        data, path = volume.data, volume.path
        if data.dtype.kind != "f":
            return data
        if not np.isfinite(data).all():
            self._fail(path, f"{name} has NaN or infinite voxels", "export it again")
            return None
        whole = np.rint(data)
        odd = np.abs(data - whole) > _SAME
        if odd.any():
            some = ", ".join(f"{value:g}" for value in np.unique(data[odd])[:3])
            self._fail(path, f"{name} values are not whole numbers ({some})", "resample it by nearest neighbour")
            return None
        if (data != whole).any():
            self._note(f"has {name} values within 0.001 of whole numbers; they are rounded")
        integers: NDArray[Any] = whole.astype(np.int64)
        return integers

    def _note(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)


def _without_voxels(volume: NiftiVolume) -> NiftiVolume:
    """Keep the grid of a volume while its memory can be freed."""
    grid = np.broadcast_to(np.zeros(1, np.uint8), volume.data.shape)
    return replace(volume, data=grid, header={}, notes=())


def _is_sheared(affine: NDArray[np.float64]) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _SAME)
