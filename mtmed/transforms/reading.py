"""Loading images and labels by verified readers, all on one grid, as MONAI transforms expect them."""

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.dicom import DICOM_SUFFIXES, read_dicom_image
from mtmed.transforms.dicom_folder import dicom_files
from mtmed.transforms.dicom_series import read_dicom_series
from mtmed.transforms.itk import ITK_SUFFIXES, read_itk
from mtmed.transforms.mask_table import read_mask_table
from mtmed.transforms.nifti import NiftiVolume, check_file, read_nifti, shape_text
from mtmed.transforms.pneumothorax_table import is_pneumothorax_table, read_pneumothorax_table
from mtmed.transforms.png import read_png, read_png_label
from mtmed.transforms.resampling import resample_volume_to
from mtmed.transforms.slice_stack import is_slice_stack, parse_slice_name, read_slice_stack

__all__ = [
    "LoadVolumed",
    "NiftiVolume",
    "OtherGrids",
    "check_orientation",
    "check_other_grids",
    "check_same_grid",
    "read_label",
    "read_nifti",
    "read_volume",
]

OtherGrids = Literal["refuse", "resample"]
"""What happens to a file on another grid than the first image of its case."""

_NIFTI = (".nii", ".nii.gz")
_PNG = ".png"
_SMALL_INTEGERS = {np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int16)}  # torch lacks operations for uint16


def read_volume(path: str | Path) -> NiftiVolume:
    """Read NIfTI, NRRD or MetaImage (LPS turned to RAS), a folder of slices (PNG or DICOM), a grey PNG or DICOM X-ray.

    Raises:
        InputError: the file is missing, damaged or of another format; a folder holds slices of both kinds; see
            `read_nifti`, `mtmed.transforms.slice_stack.read_slice_stack`,
            `mtmed.transforms.dicom_series.read_dicom_series`, `mtmed.transforms.png.read_png` and
            `mtmed.transforms.dicom.read_dicom_image`.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(_NIFTI):
        return read_nifti(path)
    if name.endswith(ITK_SUFFIXES):
        return read_itk(path)
    if name.endswith(_PNG):
        return read_png(path)
    if name.endswith(DICOM_SUFFIXES):
        return read_dicom_image(path)
    if os.path.isdir(path):
        return _read_folder(path)
    check_file(path)
    known = ", ".join((*_NIFTI, *ITK_SUFFIXES, _PNG, *DICOM_SUFFIXES))
    raise InputError(path, f"unknown format, supported are {known} and folders of slices", "convert it to .nii.gz")


def _read_folder(folder: Path) -> NiftiVolume:
    if not dicom_files(folder):
        return read_slice_stack(folder)
    if is_slice_stack(folder):
        raise InputError(folder, "holds slices both as PNG and as DICOM", "leave one of the two")
    return read_dicom_series(folder)


def read_label(path: str | Path, image: NiftiVolume | None) -> NiftiVolume:
    """Read what belongs to an image: a label map, masks that may overlap, or another map of whole numbers.

    A table (``.csv``) gives the packed masks of the image's slices, or of an X-ray, as its columns tell; a colour PNG
    packed masks, all other files what `read_volume` gives. A PNG without a spacing in its name lies on the grid of a
    PNG image or an X-ray of its size.

    Args:
        path: the file, or a folder of slices.
        image: the image that it belongs to; None if there is none, which a table needs.

    Raises:
        InputError: see `read_volume`, `mtmed.transforms.mask_table.read_mask_table`,
            `mtmed.transforms.pneumothorax_table.read_pneumothorax_table` and
            `mtmed.transforms.png.read_png_label`; or a table is given without an image.
    """
    name = Path(path).name.lower()
    if name.endswith(".csv"):
        if image is None:
            raise InputError(path, "is a table of masks, which needs an image", "load the image before the label")
        return read_pneumothorax_table(path, image) if is_pneumothorax_table(path) else read_mask_table(path, image)
    if not name.endswith(_PNG):
        return read_volume(path)
    label = read_png_label(path)
    flat = image is not None and image.path.lower().endswith((_PNG, *DICOM_SUFFIXES))
    if image is None or not flat or parse_slice_name(Path(path).name) is not None:
        return label
    return replace(label, affine=image.affine, spacing=image.spacing, notes=())


def check_same_grid(first: NiftiVolume, second: NiftiVolume, *, same_affine: bool = True) -> None:
    """Require that two volumes lie on one voxel grid.

    Args:
        first: the volume to compare with.
        second: the volume that must match.
        same_affine: also compare the affines: corners may differ by a tenth of the smallest spacing.

    Raises:
        InputError: naming the second file and how it differs.
    """
    ours, theirs = first.data.shape[:3], second.data.shape[:3]
    if ours != theirs:
        problem = f"has {shape_text(theirs)} voxels, {first.path} has {shape_text(ours)}"
        raise InputError(second.path, problem, "resample it to the other's grid or correct the pairing")
    ends = np.stack(np.meshgrid(*[(0, n - 1) for n in (*ours, 1, 1)[:3]], indexing="ij"), -1).reshape(-1, 3)
    apart = ends @ (first.affine - second.affine)[:3, :3].T + (first.affine - second.affine)[:3, 3]
    distance = float(np.abs(apart).max())
    if same_affine and distance > 0.1 * min(first.spacing):
        problem = f"lies up to {distance:.4g} mm away from {first.path} by its affine"
        remedy = "correct the header, or in Python accept the first file's affine with LoadVolumed(same_affine=False)"
        raise InputError(second.path, problem, remedy)


def check_orientation(volume: NiftiVolume) -> None:
    """Require that a file declares how its axes lie in the patient.

    Raises:
        InputError: otherwise, since left and right are then a guess.
    """
    if not volume.oriented:
        problem = "declares no orientation (NIfTI: neither sform nor qform), so that left and right are unknown"
        raise InputError(volume.path, problem, "export it again with its geometry, or leave the case out")


def check_other_grids(other_grids: str, same_affine: bool) -> None:
    """Require a known value of the option, and one rule only for affines that differ.

    Raises:
        InputError: otherwise.
    """
    if other_grids not in ("refuse", "resample"):
        raise InputError("other_grids", f"is {other_grids!r}", "use 'refuse' or 'resample'")
    if other_grids == "resample" and not same_affine:
        problem = "is 'resample', which follows the affines, but same_affine is false, which ignores them"
        raise InputError("other_grids", problem, "leave one of the two out")


class LoadVolumed(MapTransform):
    """Load files as MONAI's ``LoadImaged`` followed by ``EnsureChannelFirstd``, but verified and on one grid.

    Gives float32 `MetaTensor` (C, H, W, D) with ``affine``, ``original_affine`` and the header's fields, so that
    MONAI's Orientationd, Spacingd, Invertd and SaveImaged work on it. A list of paths gives one channel each (the
    modalities of an image, the raters of a label); None in the list gives a channel of zeros. Voxels keep the file's
    order in memory (first axis fastest), since turning it here would cost more than reading.

    The grid is that of the first image that is there.

    Args:
        keys: entries of the data to load, the images first; all must lie on one grid. `read_label` reads all but
            ``image``.
        same_affine: refuse files whose affines differ; with False the first file's affine holds for all. Files of
            different shape are always refused.
        other_grids: what to do with files on another grid than the first one: ``"refuse"``, or ``"resample"`` them onto
            it by their place in the patient (`mtmed.transforms.resampling`): the key ``image`` linearly, outside is 0;
            all other keys, which hold whole numbers, by the nearest voxel. Differences of less than a tenth of a voxel
            are none.
        keep_integers: leave integers of 8 and 16 bits as they are in the file, so that turning and resampling a scan
            moves half or a quarter of the memory. For chains whose next steps accept integers, as Orientationd
            followed by `SeparableSpacingd` (which gives float32) do.
        require_orientation: refuse files that do not declare how their axes lie in the patient, for chains that tell
            left from right. With ``same_affine`` false only the file whose affine is taken must declare it.
        allow_missing_keys: pass over keys that the data do not have.

    Raises:
        InputError: see `read_nifti`, `check_same_grid`, `check_orientation` and
            `mtmed.transforms.resampling.resample_volume_to`; or if an entry lists no file; or if ``same_affine`` is
            false while ``other_grids`` is ``"resample"``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        same_affine: bool = True,
        other_grids: OtherGrids = "refuse",
        keep_integers: bool = False,
        require_orientation: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_other_grids(other_grids, same_affine)
        self.same_affine = same_affine
        self.other_grids = other_grids
        self.keep_integers = keep_integers
        self.require_orientation = require_orientation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the path or list of paths under each key by the loaded tensor."""
        loaded = dict(data)
        reference: NiftiVolume | None = None
        for key in self.key_iterator(loaded):
            given = loaded[key]
            paths = [given] if given is None or isinstance(given, str | Path) else list(given)
            volumes: list[NiftiVolume | None] = []
            for path in paths:
                volume = None if path is None else read_volume(path) if key == "image" else read_label(path, reference)
                reference = reference or volume
                if volume is not None and reference is not None:
                    if self.require_orientation and (self.same_affine or volume is reference):
                        check_orientation(volume)
                    volume = self._on_grid_of(reference, volume, nearest=key != "image")
                volumes.append(volume)
            first = next((volume for volume in volumes if volume is not None), None)
            if first is None or reference is None:
                raise InputError(key, "no file is listed", "list at least one path")
            affine = first.affine if self.same_affine else reference.affine
            loaded[key] = _to_tensor(volumes, first, affine, keep_integers=self.keep_integers)
        return loaded

    def _on_grid_of(self, reference: NiftiVolume, volume: NiftiVolume, *, nearest: bool) -> NiftiVolume:
        if volume is reference:
            return volume
        try:
            check_same_grid(reference, volume, same_affine=self.same_affine)
        except InputError:
            if self.other_grids == "refuse":
                raise
            return resample_volume_to(volume, reference, nearest=nearest)
        return volume


def _to_tensor(
    volumes: Sequence[NiftiVolume | None], first: NiftiVolume, affine: NDArray[np.float64], *, keep_integers: bool
) -> MetaTensor:
    rank = min(first.data.ndim, 3)
    kinds = {v.data.dtype for v in volumes if v is not None}
    kept = keep_integers and len(kinds) == 1 and kinds <= _SMALL_INTEGERS
    dtype = first.data.dtype if kept else np.dtype(np.float32)
    missing = np.zeros(first.data.shape[:rank], dtype, order="F")
    voxels = [missing if v is None else v.data for v in volumes]
    channels = [
        torch.from_numpy(np.array(np.moveaxis(v, -1, 0) if v.ndim == 4 else v[None], dtype, order="K")) for v in voxels
    ]
    tensor = channels[0] if len(channels) == 1 else torch.cat(channels)
    channel_dim = 0 if len(volumes) > 1 else -1 if first.data.ndim == 4 else float("nan")
    numbers = {name: np.asarray(value) for name, value in first.header.items()}
    meta: dict[str, Any] = {name: value for name, value in numbers.items() if value.dtype.kind in "iuf"}
    if "pixdim" in meta:
        meta["original_pixdim"] = meta["pixdim"].copy()
    meta |= {
        "original_affine": affine.copy(),
        "as_closest_canonical": False,
        "spatial_shape": np.asarray(first.data.shape[:rank]),
        "space": "RAS",
        "original_channel_dim": channel_dim,
        "filename_or_obj": first.path,
    }
    return MetaTensor(tensor, affine=torch.as_tensor(affine), meta=meta)
