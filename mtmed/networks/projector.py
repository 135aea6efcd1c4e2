"""Projection head of MixCL: from an encoder's feature map to the space in which voxels are compared."""

from torch import Tensor, nn

from mtmed.errors import InputError
from mtmed.networks.moment_norm import MomentNorm

__all__ = ["Projector"]


class Projector(nn.Sequential):
    """Three convolutions of kernel 1 with c, c and 2c channels, normalised over the joint batch in between.

    ``conv - norm - ReLU - conv - norm - ReLU - conv``. Source: Li, Quan, Zhou 2022 (arXiv 2203.02114), Section 2.1,
    which leaves the norm and the activation open; batch normalisation is that of Barlow Twins.

    Args:
        channels: channels c of the feature map.
        spatial_dims: number of spatial axes, 1 to 3.

    Attributes:
        out_channels: 2c.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(self, channels: int, *, spatial_dims: int) -> None:
        convolutions: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
        if spatial_dims not in convolutions:
            raise InputError("spatial_dims", f"{spatial_dims} is not 1, 2 or 3", "give the number of spatial axes")
        if channels < 1:
            raise InputError("channels", f"{channels} is not >= 1", "give the channels of the feature map")
        convolution = convolutions[spatial_dims]
        # no bias before a norm, which would take it out again
        super().__init__(
            convolution(channels, channels, kernel_size=1, bias=False),
            MomentNorm(channels),
            nn.ReLU(inplace=True),
            convolution(channels, channels, kernel_size=1, bias=False),
            MomentNorm(channels),
            nn.ReLU(inplace=True),
            convolution(channels, 2 * channels, kernel_size=1),
        )
        self.out_channels = 2 * channels

    def forward(self, input: Tensor) -> Tensor:
        """Project each voxel.

        Args:
            input: shape ``B C *spatial``.

        Returns:
            Shape ``B 2C *spatial``.
        """
        output: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        return output
