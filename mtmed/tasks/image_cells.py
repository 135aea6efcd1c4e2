"""Images cut into a grid of cells, and put together from them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["assemble_cells", "cut_cells", "pool_cells"]


def cut_cells(image: Tensor, grid: Sequence[int]) -> Tensor:
    """Cut the centre of an image into cells of one size; voxels that are too many for that are left out.

    Args:
        image: B C H W [D].
        grid: number of cells along each axis of space.

    Returns:
        B N C h w [d], where N is the number of cells, the last axis running fastest.
    """
    for axis, count in enumerate(grid, start=2):
        remainder = image.shape[axis] % count
        image = image.narrow(axis, remainder // 2, image.shape[axis] - remainder)
    dims = len(grid)
    sides = [part for count, side in zip(grid, image.shape[2:], strict=True) for part in (count, side // count)]
    # B C g h g w [g d]
    image = image.reshape(*image.shape[:2], *sides)
    places, inner = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return image.permute(0, *places, 1, *inner).flatten(1, dims)


def assemble_cells(cells: Tensor, grid: Sequence[int], size: Sequence[int]) -> Tensor:
    """Put cells together to an image, with zeros where `cut_cells` left something out.

    Args:
        cells: B N C h w [d].
        grid: number of cells along each axis of space.
        size: spatial size of the image, H W [D].

    Returns:
        B C H W [D].
    """
    dims = len(grid)
    image = cells.reshape(len(cells), *grid, *cells.shape[2:])
    # B g g [g] C h w [d]
    order = [axis for pair in zip(range(1, 1 + dims), range(2 + dims, 2 + 2 * dims), strict=True) for axis in pair]
    image = image.permute(0, 1 + dims, *order)
    for axis in range(dims):
        image = image.flatten(2 + axis, 3 + axis)
    pads: list[int] = []
    for axis in reversed(range(dims)):
        missing = size[axis] - image.shape[2 + axis]
        pads += [missing // 2, missing - missing // 2]
    return pad(image, pads) if max(pads) > 0 else image


def pool_cells(feature_map: Tensor, grid: Sequence[int]) -> Tensor:
    """Mean of a feature map over each cell; a voxel that lies in two cells counts for both by its share.

    Unlike torch's adaptive pooling it has a gradient that is the same in each run on a GPU.

    Args:
        feature_map: B C H W [D].
        grid: number of cells along each axis of space.

    Returns:
        B N C, cells in the order of `cut_cells`.
    """
    pooled = feature_map
    for axis, count in enumerate(grid, start=2):
        pooled = (pooled.movedim(axis, -1) @ _shares(pooled.shape[axis], count).to(pooled)).movedim(-1, axis)
    return pooled.flatten(2).transpose(1, 2)


def _shares(side: int, count: int) -> Tensor:
    """Weight of each voxel in the mean over each cell, side x count; columns sum to 1."""
    voxels = torch.arange(side, dtype=torch.float64)[:, None]
    edges = torch.arange(count + 1, dtype=torch.float64) * side / count
    overlap = torch.minimum(voxels + 1, edges[1:]) - torch.maximum(voxels, edges[:-1])
    return overlap.clamp(min=0) * count / side
