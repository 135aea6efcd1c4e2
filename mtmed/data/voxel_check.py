"""What voxels must be before they are stored: finite intensities and whole label values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = ["finite_extremes", "whole_labels"]

_ROUNDING = 1e-3  # label values stored with a scale factor miss whole numbers by less


def whole_labels(path: str, label: torch.Tensor) -> NDArray[Any]:
    """Turn a label map into integers; values within 0.001 of a whole number (0.9999) are rounded to it.

    Args:
        path: file to name in an error.
        label: label values, of any type, (1, H, W, D) or (H, W, D).

    Returns:
        uint8, or int16 where values exceed 255, (H, W, D).

    Raises:
        InputError: a value is no whole number from 0 to 32767.
    """
    values = (label.as_tensor() if hasattr(label, "as_tensor") else label).numpy()
    values = values[0] if values.shape[0] == 1 else values
    lowest, highest = values.min(), values.max()
    if not (lowest >= 0 and highest <= np.iinfo(np.int16).max):
        raise InputError(path, f"label values span {lowest:g} to {highest:g}, allowed are 0 to 32767", "map its labels")
    whole = (np.rint(values) if values.dtype.kind == "f" else values).astype(np.uint8 if highest <= 255 else np.int16)
    if values.dtype.kind == "f" and not np.array_equal(whole, values):
        apart = np.abs(whole - values)
        if apart.max() > _ROUNDING:
            odd = float(values.flat[int(apart.argmax())])
            raise InputError(path, f"holds the label value {odd:g}", "label values must be whole numbers")
    return np.ascontiguousarray(whole)


def finite_extremes(paths: Sequence[str], image: torch.Tensor) -> list[tuple[float, float]]:
    """Find the lowest and highest voxel of each channel.

    Args:
        paths: files of the image, one or one per channel, to name in an error.
        image: (C, ...), in any order of memory.

    Raises:
        InputError: a voxel is NaN or infinite.
    """
    extremes = []
    for channel, voxels in enumerate(image.as_tensor() if hasattr(image, "as_tensor") else image):
        # in the order of the memory, where the minimum of a turned view takes ten times as long
        dense = voxels.permute(sorted(range(voxels.ndim), key=voxels.stride, reverse=True))
        low, high = (float(value) for value in torch.aminmax(dense))
        if not np.isfinite(high - low):
            bad = int((~torch.isfinite(voxels)).sum())
            name = paths[channel if len(paths) == len(image) else 0]
            raise InputError(name, f"{bad} voxels are NaN or infinite", "repair the image or leave the case out")
        extremes.append((low, high))
    return extremes
