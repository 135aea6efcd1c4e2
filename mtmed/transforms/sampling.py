"""Taking values at arbitrary positions of an image: the grid of positions, linear and nearest sampling."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mtmed.transforms.elastic import add_displacement
from mtmed.transforms.spatial_operation import ControlGrid

_SLAB = 32768  # voxels

__all__ = ["fill_sampling_grid", "sample_linear", "sample_nearest"]


def fill_sampling_grid(grid: torch.Tensor, content: NDArray[np.float64], controls: Sequence[ControlGrid]) -> None:
    r"""Write the positions from which the output voxels take their values.

    Output voxel x takes its value from :math:`c + A^{-1}(x + u(x) - c)` with the centre :math:`c = (n - 1) / 2`, the
    map A of the content and the sum u of the displacements.

    Args:
        grid: (3, H, W, D) or (2, H, W) float32, contiguous; filled with one plane for each coordinate in the form of
            `torch.nn.functional.grid_sample` (last axis first, -1 to 1 over the outer edges of the voxels).
        content: homogeneous map of the content about the centre, voxels.
        controls: displacement fields.
    """
    shape, rank = grid.shape[1:], len(grid)
    sizes: NDArray[np.float64] = np.array(shape, dtype=np.float64)
    back = np.linalg.inv(content)
    unit = (2 / sizes[:, None] * back[:rank, :rank])[::-1].copy()
    start = (2 / sizes * (back[:rank, rank] - back[:rank, :rank] @ (sizes - 1) / 2))[::-1]
    lines = [np.arange(float(size)) * unit[:, axis, None] for axis, size in enumerate(shape)]
    lines[0] = lines[0] + start[:, None]
    steps = [torch.from_numpy(line).to(grid.device, torch.float32) for line in lines]
    rows = steps[0] if rank == 2 else steps[0][:, :, None] + steps[1][:, None]
    torch.add(rows[..., None], steps[-1].view(rank, *[1] * (rank - 1), -1), out=grid)
    for control in controls:
        add_displacement(grid, control, unit)


def sample_linear(image: torch.Tensor, grid: torch.Tensor, padding_mode: str) -> torch.Tensor:
    """Sample float32 (B, C, H, W, D) or (B, C, H, W) linearly at the positions (B, 3, H, W, D) or (B, 2, H, W)."""
    return torch.nn.functional.grid_sample(
        image, grid.movedim(1, -1), mode="bilinear", padding_mode=padding_mode, align_corners=False
    )


def sample_nearest(label: torch.Tensor, grid: torch.Tensor, padding_mode: str) -> torch.Tensor:
    """Take the nearest voxel of an integer tensor, shapes as in `sample_linear`; the dtype stays.

    Outside the image it is the nearest voxel of the border, or 0 with ``padding_mode="zeros"``.
    """
    shape = label.shape[2:]
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    # float32 counts exactly up to 2^24
    exact = torch.float32 if math.prod(shape) < 2**24 else torch.float64
    out = torch.empty((*label.shape[:2], *grid.shape[2:]), dtype=label.dtype, device=label.device)
    # slabs that fit into the cache of each CPU core
    fitting = _SLAB * torch.get_num_threads() // math.prod(grid.shape[3:])
    slab = grid.shape[2] if grid.is_cuda else max(1, fitting)
    for sample, positions, target in zip(label.flatten(2), grid, out, strict=True):
        for start in range(0, grid.shape[2], slab):
            index = torch.zeros((), dtype=exact, device=grid.device)
            outside = torch.zeros((), dtype=torch.bool, device=grid.device)
            for plane, size, stride in zip(reversed(positions.unbind()), shape, strides, strict=True):
                nearest = (plane[start : start + slab] * (size / 2)).add_((size - 1) / 2).round_()
                if padding_mode == "zeros":
                    outside = outside | (nearest < 0) | (nearest > size - 1)
                index = nearest.clamp_(0, size - 1).to(exact).mul_(stride).add_(index)
            flat = index.to(torch.int64)
            for channel, channel_target in zip(sample, target[:, start : start + slab], strict=True):
                channel_target.copy_(channel[flat])
                if padding_mode == "zeros":
                    channel_target.masked_fill_(outside, 0)
    return out
