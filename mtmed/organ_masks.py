"""Masks of organs that may overlap, kept as one map: bit k of a voxel's value says whether it belongs to organ k.

So overlapping masks need no more memory than one label map, are turned and resampled by the nearest voxel like one, and
are unpacked only where a loss or a score wants a mask per organ.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = ["JOINT", "MOST_ORGANS", "organ_values", "pack_masks", "packed_names", "unpack_masks"]

MOST_ORGANS = 8
"""As many as a byte has bits."""

JOINT = " + "
"""Stands between the organs in the name of a value that several have."""

_Voxels = TypeVar("_Voxels", torch.Tensor, NDArray[np.generic])


def pack_masks(masks: _Voxels, *, axis: int = 0) -> _Voxels:
    """Pack masks, one organ per index of `axis`, to bits.

    Args:
        masks: zero outside an organ, anything else inside.
        axis: axis of the organs; it keeps length 1.

    Returns:
        uint8, the bit k set where mask k is not zero.

    Raises:
        ValueError: there are more than eight organs.
    """
    count = masks.shape[axis]
    if count > MOST_ORGANS:
        raise ValueError(f"there are {count} masks, allowed are at most {MOST_ORGANS}; leave some out.")
    if isinstance(masks, torch.Tensor):
        # organ by organ: a sum over the organs takes seven times as long on turned volumes
        packed_bits = torch.zeros_like(masks.narrow(axis, 0, 1), dtype=torch.uint8)
        for k in range(count):
            packed_bits |= (masks.narrow(axis, k, 1) != 0).to(torch.uint8) << k
        return packed_bits
    shape = [1] * masks.ndim
    shape[axis] = count
    weights = np.array([1 << k for k in range(count)], np.uint8).reshape(shape)
    packed: NDArray[np.generic] = ((masks != 0) * weights).sum(axis, keepdims=True).astype(np.uint8)
    return packed


def unpack_masks(packed: _Voxels, organs: int, *, axis: int = 0) -> _Voxels:
    """Masks 0 or 1, one organ per index of `axis`, of what `pack_masks` gave.

    Args:
        packed: whole numbers, of length 1 along `axis`.
        organs: how many there are; bits beyond them are not looked at.
        axis: axis that will hold the organs.

    Returns:
        uint8.
    """
    if packed.shape[axis] != 1:
        raise ValueError(f"axis {axis} has length {packed.shape[axis]}, allowed is 1; give one packed map.")
    shape = [1] * packed.ndim
    shape[axis] = organs
    if isinstance(packed, torch.Tensor):
        places = torch.arange(organs, dtype=torch.uint8, device=packed.device).view(shape)
        return (packed.to(torch.uint8) >> places).bitwise_and_(1)
    masks: NDArray[np.generic] = (packed.astype(np.uint8) >> np.arange(organs, dtype=np.uint8).reshape(shape)) & 1
    return masks


def organ_values(organs: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """For each organ all values of a packed map in which its bit is set.

    Raises:
        InputError: there is no organ, one is named twice, or there are more than eight.
    """
    _check(organs)
    every = range(1, 1 << len(organs))
    return {name: tuple(value for value in every if value >> k & 1) for k, name in enumerate(organs)}


def packed_names(organs: Sequence[str]) -> dict[int, str]:
    """Name of each value of a packed map: ``{0: "background", 1: "a", 2: "b", 3: "a + b"}``.

    Raises:
        InputError: as `organ_values`.
    """
    _check(organs)
    names = {0: "background"}
    for value in range(1, 1 << len(organs)):
        names[value] = JOINT.join(name for k, name in enumerate(organs) if value >> k & 1)
    return names


def _check(organs: Sequence[str]) -> None:
    if not organs or len(set(organs)) < len(organs) or len(organs) > MOST_ORGANS:
        problem = f"are {', '.join(organs) or 'none'}"
        raise InputError("organs", problem, f"name 1 to {MOST_ORGANS} organs, each once")
