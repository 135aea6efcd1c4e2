"""Padding on both sides of each axis, and its undoing, for networks that need sides of a certain multiple."""

from torch import Tensor
from torch.nn import functional

__all__ = ["crop_centre", "pad_centre"]


def pad_centre(image: Tensor, multiple: int) -> Tensor:
    """Put zeros around the image up to the next multiple, of an odd number one more at the end.

    Args:
        image: B C H W [D].
        multiple: what the sides become multiples of.

    Returns:
        The padded image, the same tensor where nothing is missing.
    """
    pads: list[int] = []
    for axis in range(image.dim() - 1, 1, -1):
        missing = -image.shape[axis] % multiple
        pads += [missing // 2, missing - missing // 2]
    return functional.pad(image, pads) if max(pads) > 0 else image


def crop_centre(feature_map: Tensor, size: list[int]) -> Tensor:
    """The part that an image had before `pad_centre`; the same tensor where nothing was added.

    Args:
        feature_map: B C H W [D].
        size: spatial size of the image, H W [D], not above that of the map.
    """
    for axis, side in enumerate(size):
        missing = feature_map.shape[2 + axis] - side
        if missing != 0:
            feature_map = feature_map.narrow(2 + axis, missing // 2, side)
    return feature_map
