"""A block of densely connected layers."""

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from mtmed.networks.normalised_convolution import NormalisedConvolution

__all__ = ["DenseBlock"]


class DenseBlock(nn.ModuleList):
    """Layers of group normalisation, ReLU and 3³ convolution, each reading the block's input and all layers before it.

    Source: Huang et al. 2017, "Densely Connected Convolutional Networks", without the bottleneck.

    Args:
        in_channels: channels of the input; a multiple of `groups`.
        layers: number of layers.
        growth: channels that each layer adds; a multiple of `groups`.
        groups: groups of the normalisation.
        recompute: compute the inside of a layer again in the backward pass instead of keeping it.
        spatial_dims: 2 or 3.

    Attributes:
        out_channels: ``in_channels + layers * growth``.
    """

    def __init__(
        self, *, in_channels: int, layers: int, growth: int, groups: int, recompute: bool, spatial_dims: int
    ) -> None:
        convolution = Conv[Conv.CONV, spatial_dims]
        super().__init__(
            NormalisedConvolution(
                channels, [convolution(channels, growth, kernel_size=3, padding=1)], groups=groups, recompute=recompute
            )
            for channels in range(in_channels, in_channels + layers * growth, growth)
        )
        self.out_channels = in_channels + layers * growth

    def forward(self, image: Tensor) -> list[Tensor]:
        """The input and what each layer adds: maps B C_i H W [D], to be concatenated by whoever reads them."""
        maps = [image]
        for layer in self:
            maps.append(layer(maps))
        return maps
