"""Padding at the end of each axis, and its undoing, for networks that need sides of a certain multiple."""

from torch import Tensor
from torch.nn import functional

__all__ = ["crop_end", "pad_end"]


def pad_end(image: Tensor, multiple: int) -> Tensor:
    """Append zeros to each spatial axis up to the next multiple; the same tensor where nothing is missing.

    Args:
        image: B C H W [D].
        multiple: what the sides become multiples of.
    """
    pads: list[int] = []
    for axis in range(image.dim() - 1, 1, -1):
        pads += [0, -image.shape[axis] % multiple]
    return functional.pad(image, pads) if max(pads) > 0 else image


def crop_end(feature_map: Tensor, size: list[int]) -> Tensor:
    """The first voxels of each spatial axis; the same tensor where it has this size already.

    Args:
        feature_map: B C H W [D].
        size: spatial size, H W [D], not above that of the map.
    """
    for axis, side in enumerate(size):
        if feature_map.shape[2 + axis] != side:
            feature_map = feature_map.narrow(2 + axis, 0, side)
    return feature_map
