"""Networks and batches of slices to call tasks with."""

from typing import Any

import torch
from torch import Tensor

from mtmed.networks import DenseUNet, UNet

NORMS = {"group": ("group", {"num_groups": 2}), "batch": "batch", "instance": ("instance", {"affine": True})}


def make_unet(norm: str = "group", spatial_dims: int = 2, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(
        in_channels=1, out_channels=2, features=(2, 4, 4, 8, 12, 2), norm=NORMS[norm], spatial_dims=spatial_dims
    )


def make_dense_unet(seed: int = 0) -> DenseUNet:
    torch.manual_seed(seed)
    return DenseUNet(in_channels=1, out_channels=2, block_layers=(1, 1, 1, 1), spatial_dims=2)


def make_slices(
    step: int = 0, *, pairs: int = 4, groups: int = 2, spatial_dims: int = 2, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """A view of neighbouring slices: samples 2i and 2i + 1; ``groups`` groups of equal size, each of one volume."""
    generator = torch.Generator().manual_seed(100 + step)
    group = torch.arange(groups).repeat_interleave(2 * pairs // groups)
    first = torch.randint(0, 40, (pairs,), generator=generator)
    side = 32 if spatial_dims == 2 else 16
    image = torch.rand(2 * pairs, 1, *[side] * spatial_dims, generator=generator, dtype=dtype)
    index = torch.stack([first, first + 1], 1).flatten()
    return {
        "image": image,
        "label": (image > 0.5).byte(),
        "group": group,
        "volume": (group + step) % 3,
        "slice": index,
        "slice_position": index.to(torch.float32) / 40,
    }


def part_of(view: dict[str, Tensor], rows: slice) -> dict[str, Any]:
    return {name: tensor[rows] for name, tensor in view.items()}
