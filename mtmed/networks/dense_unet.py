"""The dense U-Net of the siamese kidney paper: a densely connected encoder and a light decoder."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import UpSample
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from mtmed.networks.centre_padding import crop_centre, pad_centre
from mtmed.networks.dense_block import DenseBlock
from mtmed.networks.normalised_convolution import ConvolutionChain, NormalisedConvolution, double_convolution

__all__ = ["DenseUNet"]

# channels that each block of the decoder has, and those that its upsampling leaves
_DECODER = ((128, 64), (32, 16), (4, 4))


class DenseUNet(nn.Module):
    """U-Net with four densely connected blocks in the encoder, group normalisation and a light decoder.

    In the default order the stem is a 3³ convolution of stride 2. A block's layers are group normalisation, ReLU and 3³
    convolution. After each of the first three blocks, a transition (group normalisation, ReLU, 1³ convolution, 2³
    convolution of stride 2) leads to the next level. For an image of side 64 and the default widths:

    =====================  ========  ====  ======  =====
    map                    channels  side  stride  level
    =====================  ========  ====  ======  =====
    block 1                12        32    2       -
    transition 1           16        16    4       0
    block 2                48        16    4       -
    transition 2           16        8     8       1
    block 3                80        8     8       -
    transition 3           16        4     16      2
    block 4                144       4     16      3
    =====================  ========  ====  ======  =====

    The decoder has two 3³ convolutions per block, each after group normalisation and ReLU, and doubles the side by
    transposed convolution: levels 3 and 2 to 128 and up to 64 channels, with level 1 to 32 and up to 16, with level 0
    to 4; one transposed convolution, applied twice, leads from there to the image's size.

    `paper_order` builds what the paper's text says: a stem of stride 1, and after each of the four blocks first the
    convolution of stride 2, then that of kernel 1, both after group normalisation and ReLU. The four transitions are
    the levels, with strides 2, 4, 8, 16. Our reading of the decoder there: four blocks, each followed by a transposed
    convolution of its own, the last three with a skip; the fourth keeps 4 channels.

    Images whose sides are no multiples of 16 get zeros around them; ``forward`` crops to the image again.

    Source: Dhere, Sivaswamy 2021 (arXiv 2101.05456), Section 2.2, and the author's code for the default order and all
    widths.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        block_layers: layers of the four blocks.
        growth: channels that a layer adds, for each block.
        stem_channels: channels after the first convolution.
        transition_channels: channels after a transition.
        groups: groups of the normalisation; divides `growth`, `stem_channels`, `transition_channels` and 4.
        paper_order: the paper's text in place of the author's code.
        recompute: compute the inside of layers again in the backward pass instead of keeping it: less memory, more
            time, the same gradients.
        spatial_dims: 2 or 3.

    Attributes:
        level_channels: channels of the feature maps, fine to coarse.
        level_strides: their strides.
        in_channels: channels of the image.
        decoder_channels: channels of what ``decode`` returns.
        image_size: None, because any size is accepted.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: if an argument is out of range, or `groups` does not divide a number of channels.
    """

    encoder_prefixes = ("stem.", "blocks.", "transitions.")

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        block_layers: Sequence[int] = (2, 2, 4, 8),
        growth: Sequence[int] = (4, 16, 16, 16),
        stem_channels: int = 4,
        transition_channels: int = 16,
        groups: int = 4,
        paper_order: bool = False,
        recompute: bool = False,
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        for name, values in (("block_layers", block_layers), ("growth", growth)):
            if len(values) != 4 or min(values) < 1:
                raise ValueError(f"{name} is {list(values)}; give four numbers from 1, one per block.")
        if min(in_channels, out_channels, stem_channels, transition_channels, groups) < 1:
            raise ValueError("A number of channels or groups is below 1; give numbers from 1.")
        for name, value in (
            *((f"growth {one}", one) for one in growth),
            ("stem_channels", stem_channels),
            ("transition_channels", transition_channels),
            ("the decoder's last number of channels", _DECODER[-1][0]),
        ):
            if value % groups:
                raise ValueError(f"groups is {groups}, which does not divide {name} ({value}); give a common divisor.")
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is {spatial_dims}; give 2 or 3.")
        convolution = Conv[Conv.CONV, spatial_dims]

        def halving(channels: int) -> nn.Module:
            return convolution(channels, channels, kernel_size=2, stride=2)  # type: ignore[no-any-return]

        def normalised(channels: int, *convolutions: nn.Module) -> NormalisedConvolution:
            return NormalisedConvolution(channels, convolutions, groups=groups, recompute=recompute)

        def transition(channels: int) -> ConvolutionChain:
            mixing = convolution(channels, transition_channels, kernel_size=1)
            if paper_order:
                return ConvolutionChain([normalised(channels, halving(channels)), normalised(channels, mixing)])
            return ConvolutionChain([normalised(channels, mixing, halving(transition_channels))])

        self.stem = convolution(in_channels, stem_channels, kernel_size=3, stride=1 if paper_order else 2, padding=1)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        channels = stem_channels
        for index, (layers, added) in enumerate(zip(block_layers, growth, strict=True)):
            block = DenseBlock(
                in_channels=channels,
                layers=layers,
                growth=added,
                groups=groups,
                recompute=recompute,
                spatial_dims=spatial_dims,
            )
            self.blocks.append(block)
            channels = block.out_channels
            if paper_order or index < 3:
                self.transitions.append(transition(channels))
                channels = transition_channels

        widths = (*_DECODER, _DECODER[-1]) if paper_order else _DECODER
        skips = [0] * paper_order + [transition_channels] * 3
        self.decoder_blocks = nn.ModuleList()
        self.upsamples = nn.ModuleList()
        coarse = channels
        for skip, (inner, outer) in zip(skips, widths, strict=True):
            self.decoder_blocks.append(
                double_convolution(coarse + skip, inner, groups=groups, recompute=recompute, spatial_dims=spatial_dims)
            )
            self.upsamples.append(UpSample(spatial_dims, inner, outer, scale_factor=2, mode="deconv"))
            coarse = outer
        self.final_conv = convolution(coarse, out_channels, kernel_size=1)

        self.paper_order = paper_order
        self.level_channels = [transition_channels] * 3 + [channels]
        self.level_strides = [2, 4, 8, 16] if paper_order else [4, 8, 16, 16]
        self.in_channels = in_channels
        self.decoder_channels = coarse
        self.image_size = None
        self.spatial_dims = spatial_dims

    @torch.jit.export
    def encode(self, image: Tensor) -> list[Tensor]:
        """Feature maps of an image B C H W [D], fine to coarse: four maps, B C_l H'/s_l W'/s_l [D'/s_l].

        H', W', D' are the sides padded to multiples of 16.
        """
        x = self.stem(pad_centre(image, 16))
        features: list[Tensor] = []
        for block, transition in zip(self.blocks, self.transitions):  # noqa: B905 (TorchScript knows no strict)
            x = transition(block(x))
            features.append(x)
        if not self.paper_order:
            features.append(torch.cat(self.blocks[3](x), 1))
        return features

    @torch.jit.export
    def decode(self, features: list[Tensor]) -> Tensor:
        """Full-resolution feature map, B decoder_channels H' W' [D'], from what ``encode`` returns."""
        x = features[3]
        skip = 3 if self.paper_order else 2
        for block, upsample in zip(self.decoder_blocks, self.upsamples):  # noqa: B905 (TorchScript knows no strict)
            x = upsample(block([x] if skip == 3 else [x, features[skip]]))
            skip -= 1
        return x if self.paper_order else self.upsamples[2](x)

    @torch.jit.export
    def head(self, decoded: Tensor) -> Tensor:
        """Logits, B out_channels H W [D], from what ``decode`` returns."""
        return self.final_conv(decoded)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits, B out_channels H W [D], of an image, B C H W [D]."""
        return self.head(crop_centre(self.decode(self.encode(x)), list(x.shape[2:])))
