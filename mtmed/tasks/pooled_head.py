"""Head of tasks that tell something of an image as a whole."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["PooledHead"]


class PooledHead(nn.Module):
    """Two linear layers with a ReLU in between, on the mean of the coarsest feature map over its voxels.

    Computes in float32 at least, also under autocast.

    Args:
        channels: channels of the coarsest feature map.
        hidden: width of the layer in between.
        features: numbers per image that come out.
    """

    def __init__(self, channels: int, *, hidden: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, features))

    def forward(self, encoded: Sequence[Tensor]) -> Tensor:
        """B features, from the feature maps of the network, B C_l H W [D], fine to coarse; the last is read."""
        coarsest = encoded[-1]
        with torch.autocast(coarsest.device.type, enabled=False):
            voxels = coarsest.to(torch.promote_types(coarsest.dtype, torch.float32)).flatten(2)
            return self.layers(voxels.mean(2))  # type: ignore[no-any-return]
