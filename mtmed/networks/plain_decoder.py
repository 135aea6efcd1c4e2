"""A light decoder without skips, from the coarsest feature map to the image."""

from collections.abc import Sequence

from monai.networks.blocks import UpSample
from torch import Tensor, nn

from mtmed.networks.normalised_convolution import double_convolution

__all__ = ["PlainDecoder"]


class PlainDecoder(nn.Module):
    """Decoder that reads one feature map only, so that the encoder has to put all of the image into it.

    Blocks of two 3³ convolutions, each after group normalisation and ReLU. Each block but the last is followed by a
    transposed convolution of stride 2; the last by one that makes up for what is left of the stride and gives the
    output. With the default `features`, from a map of stride 16: a block to 128, up to 64; a block to 32, up to 16; a
    block to 16, four times up to the output.

    Source: the reconstruction branch of Dhere, Sivaswamy 2021 (arXiv 2101.05456), Section 2.2 ("structurally similar to
    the decoder except for the last layer but does not employ any skip connections"), with the widths of the author's
    code. Our reading of its last step, four times up to one channel: one transposed convolution.

    Args:
        in_channels: channels of the feature map; a multiple of `groups`.
        stride: stride of the feature map; ``2**k`` divides it, k being the number of blocks but the last.
        out_channels: channels of the output.
        features: channels of a block and of its upsampling in turn, and of the last block: 2 k + 1 multiples of
            `groups`.
        groups: groups of the normalisation.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        stride: int,
        out_channels: int,
        features: Sequence[int] = (128, 64, 32, 16, 16),
        groups: int = 4,
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        if len(features) % 2 == 0 or min(features) < 1:
            raise ValueError(f"features is {list(features)}; give an odd number of channels: block, upsampling, ...")
        halvings = len(features) // 2
        if stride < 1 or stride % 2**halvings:
            raise ValueError(f"stride is {stride}; with {len(features)} features give a multiple of {2**halvings}.")
        for channels in (in_channels, *features):
            if groups < 1 or channels % groups:
                raise ValueError(f"groups is {groups}, which does not divide {channels} channels; give a divisor.")

        def block(channels: int, out: int) -> nn.Module:
            return double_convolution(channels, out, groups=groups, recompute=False, spatial_dims=spatial_dims)

        self.blocks = nn.ModuleList()
        self.upsamples = nn.ModuleList()
        channels = in_channels
        for inner, outer in zip(features[:-1:2], features[1::2], strict=True):
            self.blocks.append(block(channels, inner))
            self.upsamples.append(UpSample(spatial_dims, inner, outer, scale_factor=2, mode="deconv"))
            channels = outer
        self.blocks.append(block(channels, features[-1]))
        left = stride // 2**halvings
        self.upsamples.append(UpSample(spatial_dims, features[-1], out_channels, scale_factor=left, mode="deconv"))

    def forward(self, feature_map: Tensor) -> Tensor:
        """From B in_channels H/s W/s [D/s] to B out_channels H W [D]."""
        x = feature_map
        for block, upsample in zip(self.blocks, self.upsamples):  # noqa: B905 (TorchScript knows no strict)
            x = upsample(block([x]))
        return x
