"""An image on another image's grid, by their places in the patient; and how much of the patient two grids share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtmed.errors import InputError
from mtmed.transforms.nifti import NiftiVolume, shape_text
from mtmed.transforms.writing import resample_label_to

__all__ = ["check_overlap", "field_of_view_overlap", "first_channel_on_grid", "resample_image_to", "resample_volume_to"]

_TOLERANCE = 1e-3  # of a voxel: rounding of affines stored in single precision
_SAMPLES = 48  # points along each axis by which the shared field of view is measured


def resample_image_to(
    image: NDArray[np.generic], affine: NDArray[np.float64], like_shape: Sequence[int], like_affine: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Intensity at every voxel of another grid, linear between the eight voxels around it.

    Voxel k of the other grid lies at ``inv(affine) @ like_affine @ k`` of the image. A voxel reaches half its length
    beyond its centre, with its own value; beyond that is 0. So does SimpleITK's ``Resample``.

    Args:
        image: intensities H W D.
        affine: voxel index to mm of the image's grid, 4 x 4.
        like_shape: shape of the other grid.
        like_affine: voxel index to mm of the other grid, 4 x 4.

    Returns:
        Intensities of the shape `like_shape`.
    """
    shape = tuple(int(side) for side in like_shape)
    matrix = np.linalg.inv(affine) @ like_affine
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    resampled = np.empty(shape, np.float32)
    ndimage.affine_transform(image, linear, offset, output=resampled, order=1, mode="nearest")
    grids = np.ogrid[tuple(slice(side) for side in shape)]
    for source, side in enumerate(image.shape):
        place = sum(linear[source, axis] * grids[axis] for axis in range(3)) + offset[source]
        resampled[(place < -0.5 - _TOLERANCE) | (place > side - 0.5 + _TOLERANCE)] = 0
    return resampled


def resample_volume_to(volume: NiftiVolume, like: NiftiVolume, *, nearest: bool) -> NiftiVolume:
    """Bring a volume to the grid of another one.

    Args:
        volume: 3D, or 4D with channels last.
        like: volume of the other grid.
        nearest: take the nearest voxel, as for label maps, which keeps the dtype; else linear, float32.

    Raises:
        InputError: as `check_overlap`.
    """
    check_overlap(volume, like)
    resample = resample_label_to if nearest else resample_image_to
    grid = (like.data.shape[:3], like.affine)
    channels = np.moveaxis(volume.data, -1, 0) if volume.data.ndim == 4 else volume.data[None]
    moved = [resample(channel, volume.affine, *grid) for channel in channels]
    data = np.stack(moved, axis=-1) if volume.data.ndim == 4 else moved[0]
    return NiftiVolume(data, like.affine, like.spacing[:3], {}, volume.path, volume.notes)


def first_channel_on_grid(volume: NiftiVolume, like: NiftiVolume) -> NDArray[np.generic]:
    """First channel of an image on the grid of another volume, H W D, as it is if it lies there already.

    Raises:
        InputError: as `check_overlap`.
    """
    same = volume.data.shape[:3] == like.data.shape[:3] and np.allclose(volume.affine, like.affine, atol=_TOLERANCE)
    on_grid = volume if same else resample_volume_to(volume, like, nearest=False)
    return on_grid.data[..., 0] if on_grid.data.ndim == 4 else on_grid.data


def check_overlap(volume: NiftiVolume, like: NiftiVolume) -> float:
    """Require that a volume can be brought to another one's grid.

    Returns:
        The share of the smaller field of view that lies in the other.

    Raises:
        InputError: with both affines, if they share nothing; or naming a volume that is not 3D or 4D.
    """
    for item in (volume, like):
        if item.data.ndim < 3:
            problem = f"has {shape_text(item.data.shape)} voxels, which cannot be brought to another grid"
            raise InputError(item.path, problem, "give 3D volumes, or images on one grid")
    overlap = field_of_view_overlap(volume, like)
    if overlap == 0:
        problem = f"shares no part of its field of view with {like.path} (affines {_affine_text(volume.affine)}"
        remedy = "correct the header or the pairing"
        raise InputError(volume.path, f"{problem} and {_affine_text(like.affine)})", remedy)
    return overlap


def field_of_view_overlap(first: NiftiVolume, second: NiftiVolume) -> float:
    """Share of the smaller of two fields of view that lies in the other, from 0 to 1.

    Measured by 48 points along each axis of the smaller one.
    """
    small, large = sorted((first, second), key=_size)
    sides = np.array(small.data.shape[:3])
    # points in the middle of equal parts of the whole box, whose faces lie half a voxel beyond the outermost centres
    steps = [(np.arange(_SAMPLES) + 0.5) / _SAMPLES * side - 0.5 for side in sides]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = np.linalg.inv(large.affine) @ small.affine
    places = points @ matrix[:3, :3].T + matrix[:3, 3]
    ends = np.array(large.data.shape[:3]) - 0.5 + _TOLERANCE
    return float(((places > -0.5 - _TOLERANCE) & (places < ends)).all(axis=1).mean())


def _affine_text(affine: NDArray[np.float64]) -> str:
    """An affine in one line, row by row: ``[1 0 0 -90; 0 1 0 -126; 0 0 1 -72]``."""
    return "[" + "; ".join(" ".join(f"{value + 0:.5g}" for value in row) for row in affine[:3]) + "]"


def _size(volume: NiftiVolume) -> float:
    """Volume of the field of view, mm^3."""
    return float(abs(np.linalg.det(volume.affine[:3, :3])) * np.prod(volume.data.shape[:3]))
