"""Voxels whose axes are known to be R, A, S: what left and right can be read from."""

from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = ["axis_codes", "map_like", "ras_voxels"]


def axis_codes(affine: NDArray[Any]) -> str:
    """Where the axes of an affine grow to, of an oblique one about; ``"IPL"``: inferior, posterior, left."""
    return "".join(axis or "?" for axis in nib.aff2axcodes(affine))


def ras_voxels(volume: object, key: str) -> tuple[NDArray[Any], tuple[float, ...]]:
    """One channel as an array, after a look at its affine.

    Args:
        volume: `MetaTensor` (1, H, W, D) whose axes are R, A, S: axis 0 grows to the patient's right.
        key: its name in the sample, for messages.

    Returns:
        H W D, and the size of a voxel along each axis, mm.

    Raises:
        InputError: it is no such tensor, or its axes are others, so that left and right would be wrong.
    """
    if not isinstance(volume, MetaTensor):
        problem = "has no affine, so that left and right are unknown"
        raise InputError(key, problem, "load it with LoadVolumed and orient it with Orientationd")
    file = volume.meta.get("filename_or_obj", key)
    affine = np.asarray(volume.affine.cpu(), np.float64)
    axes = axis_codes(affine)
    if axes != "RAS":
        problem = f"is oriented {axes}, so that its first axis does not grow to the patient's right"
        raise InputError(file, problem, f"put Orientationd with axcodes 'RAS' for '{key}' before")
    if volume.ndim != 4 or len(volume) != 1:
        problem = f"has the shape {tuple(volume.shape)}, expected one channel and three axes"
        raise InputError(file, problem, f"give one volume under '{key}'")
    voxels: NDArray[Any] = volume.as_tensor()[0].cpu().numpy()
    return voxels, tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))


def map_like(values: NDArray[Any], source: MetaTensor) -> MetaTensor:
    """A map H W D as `MetaTensor` (1, H, W, D) with the affine and the meta data of another tensor."""
    tensor: MetaTensor = MetaTensor(torch.from_numpy(values)[None]).copy_meta_from(source)
    return tensor
