"""Patches that a network takes in training."""

import copy
from collections.abc import Sequence
from typing import Any

import torch

from mtmed.errors import InputError

__all__ = ["require_patch_size"]


def require_patch_size(patch_size: Sequence[int], network: Any) -> None:
    """Refuse patches of another size than a network of fixed size takes, or so small that its coarsest level fails.

    Whether it fails is found by a pass without data: some networks pad small patches, some do not, and instance
    normalisation needs two voxels.

    Args:
        patch_size: sides in voxels.
        network: a network of mtmed; it stays as it is.

    Raises:
        InputError: naming the size that the network takes, or sides that are large enough.
    """
    given = list(patch_size)
    if network.image_size:
        if given != list(network.image_size):
            problem = f"is {given}, the network takes {list(network.image_size)}"
            raise InputError("patch_size", problem, "give both the same size")
        return
    enough = 2 * max(network.level_strides)
    if min(given) >= enough:
        return
    twin = copy.deepcopy(network).to("meta").train()
    try:
        twin.decode(twin.encode(torch.empty(1, network.in_channels, *given, device="meta")))
    except (RuntimeError, ValueError) as error:
        problem = f"is {given}, too small for the {len(network.level_strides)} levels of the network"
        remedy = f"give sides of {enough} or more, or a network of fewer levels"
        raise InputError("patch_size", problem, remedy) from error
