"""Loading images and labels by verified readers, all on one grid, as MONAI transforms expect them."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.nifti import NiftiVolume, check_file, check_geometry, read_nifti, shape_text

__all__ = ["LoadVolumed", "NiftiVolume", "check_same_grid", "read_nifti", "read_volume"]

_NIFTI = (".nii", ".nii.gz")
_SMALL_INTEGERS = {np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int16)}  # torch lacks operations for uint16
_ITK = (".nrrd", ".nhdr", ".mha", ".mhd")


def read_volume(path: str | Path) -> NiftiVolume:
    """Read NIfTI, or NRRD and MetaImage through SimpleITK (LPS turned to RAS).

    Raises:
        InputError: the file is missing, damaged or of another format; see `read_nifti`.
    """
    name = Path(path).name.lower()
    if name.endswith(_ITK):
        return _read_itk(Path(path))
    if not name.endswith(_NIFTI):
        check_file(Path(path))
        raise InputError(path, f"unknown format, supported are {', '.join(_NIFTI + _ITK)}", "convert it to .nii.gz")
    return read_nifti(path)


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
        remedy = "correct the header, or accept it with same_affine=False, which takes the first file's affine"
        raise InputError(second.path, problem, remedy)


class LoadVolumed(MapTransform):
    """Load files as MONAI's ``LoadImaged`` followed by ``EnsureChannelFirstd``, but verified and on one grid.

    Gives float32 `MetaTensor` (C, H, W, D) with ``affine``, ``original_affine`` and the header's fields, so that
    MONAI's Orientationd, Spacingd, Invertd and SaveImaged work on it. A list of paths gives one channel each. Voxels
    keep the file's order in memory (first axis fastest), since turning it here would cost more than reading.

    Args:
        keys: entries of the data to load; all must lie on one grid.
        same_affine: refuse files whose affines differ; with False the first file's affine holds for all. Files of
            different shape are always refused.
        keep_integers: leave integers of 8 and 16 bits as they are in the file, so that turning and resampling a scan
            moves half or a quarter of the memory. For chains whose next steps accept integers, as Orientationd
            followed by `SeparableSpacingd` (which gives float32) do.
        allow_missing_keys: pass over keys that the data do not have.

    Raises:
        InputError: see `read_nifti` and `check_same_grid`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        same_affine: bool = True,
        keep_integers: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.same_affine = same_affine
        self.keep_integers = keep_integers

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the path or list of paths under each key by the loaded tensor."""
        loaded = dict(data)
        reference: NiftiVolume | None = None
        for key in self.key_iterator(loaded):
            paths = loaded[key]
            single = isinstance(paths, str | Path)
            volumes = [read_volume(path) for path in ([paths] if single else paths)]
            if not volumes:
                raise InputError(key, "no file is listed", "list at least one path")
            reference = reference or volumes[0]
            for volume in volumes:
                if volume is not reference:
                    check_same_grid(reference, volume, same_affine=self.same_affine)
            affine = volumes[0].affine if self.same_affine else reference.affine
            loaded[key] = _to_tensor(volumes, affine, keep_integers=self.keep_integers)
        return loaded


def _to_tensor(volumes: Sequence[NiftiVolume], affine: NDArray[np.float64], *, keep_integers: bool) -> MetaTensor:
    first = volumes[0]
    rank = min(first.data.ndim, 3)
    kinds = {v.data.dtype for v in volumes}
    kept = keep_integers and len(kinds) == 1 and kinds <= _SMALL_INTEGERS
    dtype = first.data.dtype if kept else np.dtype(np.float32)
    channels = [
        torch.from_numpy(np.array(np.moveaxis(v.data, -1, 0) if v.data.ndim == 4 else v.data[None], dtype, order="K"))
        for v in volumes
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


def _read_itk(path: Path) -> NiftiVolume:
    check_file(path)
    try:
        image = SimpleITK.ReadImage(str(path))
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
    return NiftiVolume(data, affine, spacing, {}, str(path))
