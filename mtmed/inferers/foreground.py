"""Where the foreground of an image is: whole volumes need no windows elsewhere."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from monai.transforms.utils import generate_spatial_bounding_box

from mtmed.errors import InputError

__all__ = ["Foreground", "foreground_box", "foreground_mask", "require_foreground"]

Foreground = Literal["nonzero"] | float
"""``"nonzero"``: voxels that are not 0 in any channel (skull-stripped images); a number: voxels that reach it in any
channel (CT: above air)."""


def require_foreground(foreground: object) -> None:
    """Check an option of type `Foreground`.

    Raises:
        InputError: if it is neither ``"nonzero"`` nor a number.
    """
    if foreground != "nonzero" and (isinstance(foreground, bool) or not isinstance(foreground, int | float)):
        raise InputError("foreground", f"is {foreground!r}", 'give "nonzero" or the smallest value of the foreground')


def foreground_mask(image: torch.Tensor, foreground: Foreground) -> torch.Tensor:
    """Voxels of the foreground.

    NaN counts as foreground, so that a damaged image does not pass for an empty one.

    Args:
        image: image, C H W [D].
        foreground: what the foreground is.

    Returns:
        Boolean mask, H W [D].
    """
    mask = image != 0 if foreground == "nonzero" else ~(image < foreground)
    return mask.any(0)


def foreground_box(mask: torch.Tensor, *, roi_size: Sequence[int], steps: Sequence[int]) -> tuple[slice, ...] | None:
    r"""Bounding box of the foreground, enlarged as far as windows reach anyway.

    Along an axis of S voxels, windows of r voxels at steps of s cover a foreground of b voxels with
    :math:`n = 1 + \max(0, \lceil (b - r) / s \rceil)` windows. These cover :math:`r + (n - 1) s \geq b` voxels, so the
    box is enlarged to that length, or to S where the volume is smaller: evenly on both sides, or shifted where it would
    leave the volume. The windows then see more of the real surroundings, keep the overlap that was asked for, and are
    no more than in the bounding box itself.

    Args:
        mask: voxels of the foreground, H W [D].
        roi_size: window size in voxels.
        steps: distance of neighbouring windows in voxels.

    Returns:
        One slice per axis, or None if there is no foreground.
    """
    if not bool(mask.any()):
        return None
    starts, stops = generate_spatial_bounding_box(mask[None])
    box = []
    for start, stop, length, side, step in zip(starts, stops, mask.shape, roi_size, steps, strict=True):
        further = max(math.ceil((stop - start - side) / step), 0)
        covered = min(side + further * step, length)
        low = min(max(start - (covered - (stop - start)) // 2, 0), length - covered)
        box.append(slice(low, low + covered))
    return tuple(box)
