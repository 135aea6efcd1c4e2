"""Whether an image is what a skull-stripping tool leaves: a brain on a background that is exactly 0."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["LARGEST_BRAIN", "brain_depth", "subsample", "why_not_brain_alone", "why_not_skull_stripped"]

LARGEST_BRAIN = 2.4
"""Litres. Skull-stripped scans have 1.1 to 2.2 (with fluid; MNI templates are larger than life), heads 2.6 and more."""

_WORKING_SPACING = 2.0  # mm, fine enough for skull and scalp
_LEAST_BACKGROUND = 0.05  # of all voxels; an ellipsoid in its own bounding box leaves 0.48
_SCALP = 10.0  # mm below the surface within which scalp fat is brightest
_SKULL = 20.0  # mm below the surface within which bone is darkest
_LARGEST_DIP = 0.8  # of the brightness above; measured in T1: heads 0.43 to 0.75, brains 0.99 and more


def subsample(image: NDArray[Any], *, spacing: Sequence[float]) -> tuple[NDArray[Any], list[float]]:
    """Every n-th voxel along each axis, for a spacing of about 2 mm, and the spacing that it has, mm."""
    steps = [max(1, round(_WORKING_SPACING / length)) for length in spacing]
    coarse = image[tuple(slice(None, None, step) for step in steps)]
    return np.ascontiguousarray(coarse), [step * length for step, length in zip(steps, spacing, strict=True)]


def brain_depth(image: NDArray[Any], *, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Depth of each voxel below the surface of what is not 0, mm; 0 outside.

    Holes count as inside; the edge of the volume does not count as surface.

    Args:
        image: H W D, exactly 0 outside of the brain.
        spacing: size of a voxel along each axis, mm.
    """
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(ndimage.binary_fill_holes(image != 0), sampling=spacing)
    return depth


def why_not_brain_alone(image: NDArray[Any], *, spacing: Sequence[float]) -> str | None:
    """Say by what an image of any contrast is seen to hold more than a brain.

    Two signs: hardly any voxel is exactly 0, or more than `LARGEST_BRAIN` litres are not 0.

    Args:
        image: H W D.
        spacing: size of a voxel along each axis, mm.

    Returns:
        A clause such as ``"3.1 litres are not 0, ..."``, or None.
    """
    background = 1 - np.count_nonzero(image) / image.size
    if background < _LEAST_BACKGROUND:
        return f"only {background:.1%} of its voxels are exactly 0, so that it has no background"
    litres = np.count_nonzero(image) * float(np.prod(spacing)) * 1e-6
    if litres > LARGEST_BRAIN:
        return f"{litres:.1f} litres are not 0, more than a brain ({LARGEST_BRAIN} litres)"
    return None


def why_not_skull_stripped(image: NDArray[Any], *, spacing: Sequence[float]) -> str | None:
    """Say by what a T1 is seen not to be skull-stripped.

    The signs of `why_not_brain_alone`, and below the surface it is bright, then dark, as scalp and skull are in T1.
    Intensities may have any linear scale.

    Args:
        image: T1-weighted, H W D.
        spacing: size of a voxel along each axis, mm.

    Returns:
        A clause such as ``"3.1 litres are not 0, ..."``, or None.
    """
    reason = why_not_brain_alone(image, spacing=spacing)
    if reason:
        return reason
    if _dip_below_surface(image, spacing) < _LARGEST_DIP:
        return "below its surface it is bright and then dark, as scalp and skull are"
    return None


def _dip_below_surface(image: NDArray[Any], spacing: Sequence[float]) -> float:
    """Least mean brightness deeper than the brightest layer near the surface, as a share of that layer's."""
    coarse, sampling = subsample(image, spacing=spacing)
    depth = brain_depth(coarse, spacing=sampling)
    inside = depth > 0
    if not inside.any():
        return 1.0
    low, high = np.quantile(coarse[inside], [0.01, 0.99])
    if low == high:
        return 1.0
    layer = (depth[inside] / _WORKING_SPACING).astype(np.int64)
    counts = np.bincount(layer)
    sums = np.bincount(layer, weights=np.clip((coarse[inside] - low) / (high - low), 0, 1))
    layers = np.flatnonzero(counts)
    layers = layers[layers * _WORKING_SPACING < _SKULL]
    shallow = np.count_nonzero(layers * _WORKING_SPACING < _SCALP)
    if shallow == 0:
        return 1.0
    brightness = sums[layers] / counts[layers]
    brightest = int(np.argmax(brightness[:shallow]))
    return float(brightness[brightest:].min() / max(brightness[brightest], 1e-12))
