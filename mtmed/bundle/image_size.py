"""Images that have a pixel left on the network's coarsest level."""

from collections.abc import Sequence
from typing import Any

from mtmed.errors import InputError

__all__ = ["require_image_size"]


def require_image_size(image_size: Sequence[int], network: Any, *, name: str = "image_size") -> None:
    """Refuse images that the network's encoder would shrink to nothing.

    Args:
        image_size: sides in voxels.
        network: a network of mtmed.
        name: of the option.

    Raises:
        InputError: naming the smallest side, which is the stride of the coarsest level.
    """
    smallest = max(network.level_strides)
    if min(image_size) < smallest:
        problem = f"is {list(image_size)}, too small for {len(network.level_strides)} levels of the network"
        raise InputError(name, problem, f"give sides of {smallest} or more, or a network of fewer levels")
