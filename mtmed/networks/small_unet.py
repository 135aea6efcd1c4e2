"""The small 2D U-Net of the GI tract paper, with or without feature-wise linear modulation."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import Tensor, nn

from mtmed.networks.film import make_film, split_condition

__all__ = ["SmallUNet"]


class SmallUNet(nn.Module):
    """2D U-Net with two 3 x 3 convolutions per level, each with batch normalisation and ReLU.

    Levels are joined by max pooling and transposed convolutions, and encoder maps are concatenated in the decoder. With
    four poolings ``forward`` equals MONAI's BasicUNet with batch normalisation and ReLU. Images may have any sides from
    ``2 ** depth``; odd ones are padded inside.

    With `film` the output of the first convolution layer (convolution, normalisation, ReLU) is scaled and shifted by
    what is known about the image, see `FiLM`.

    Source: Chia, Gu, Lui 2022, "Small UNet", two convolutions per level. Our reading: the paper's "no skip connections"
    are those of residual blocks; the first level has 48 channels as its FiLM vectors have, each further one doubles.

    Args:
        in_channels: channels of the image, without planes of a condition.
        out_channels: channels of the logits.
        base_channels: channels of the first level and of the decoded map.
        depth: number of poolings; the paper says 5 to 6 for U-Nets in general.
        maximum_channels: coarse levels have no more channels than this; None for no limit.
        film: ``{"features": [...], "mean": [...], "deviation": [...], "hidden": 64}``, see `FiLM`; None for a network
            that knows the image only.
        dropout: share of the units dropped in training.

    Attributes:
        level_channels: channels of the feature maps, fine to coarse.
        level_strides: their strides.
        in_channels: channels of the image, without planes of a condition.
        decoder_channels: channels of what ``decode`` returns.
        image_size: None, because any size is accepted.
        spatial_dims: 2.
        condition_features: names of the numbers that ``encode`` takes as its condition; empty without `film`.

    Raises:
        ValueError: if a number of channels or poolings is out of range, or `film` is not usable.
    """

    encoder_prefixes = ("conv_0.", "downs.", "film.")

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        base_channels: int = 48,
        depth: int = 4,
        maximum_channels: int | None = None,
        film: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        limit = base_channels * 2**depth if maximum_channels is None else maximum_channels
        if min(in_channels, out_channels, depth) < 1 or base_channels < 2 or limit < base_channels:
            raise ValueError(
                "give at least 1 channel of image and logits and 1 pooling, base_channels from 2 and maximum_channels "
                f"from base_channels; base_channels is {base_channels}, depth {depth}, maximum_channels {limit}."
            )
        channels = [min(base_channels * 2**level, limit) for level in range(depth + 1)]
        options = {"act": ("relu", {"inplace": True}), "norm": "batch", "bias": True, "dropout": dropout}
        self.conv_0 = TwoConv(2, in_channels, channels[0], **options)
        self.film = make_film(film, channels[0])
        self.downs = nn.ModuleList(Down(2, fine, coarse, **options) for fine, coarse in pairwise(channels))
        self.ups = nn.ModuleList(
            UpCat(2, channels[level + 1], channels[level], channels[level], halves=level > 0, **options)
            for level in reversed(range(depth))
        )
        self.final_conv = Conv["conv", 2](channels[0], out_channels, kernel_size=1)

        self.level_channels = channels
        self.level_strides = [2**level for level in range(depth + 1)]
        self.in_channels = in_channels
        self.decoder_channels = channels[0]
        self.image_size = None
        self.spatial_dims = 2
        self.condition_features = self.film.features if self.film is not None else ()

    @torch.jit.export
    def encode(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Feature maps of an image B C H W, fine to coarse: B C_l H/s_l W/s_l, sides rounded down.

        Args:
            image: B C H W, without planes of a condition.
            condition: B F, the numbers named in ``condition_features``, NaN where one is unknown; None if all are.
        """
        x = self.conv_0.conv_0(image)
        if self.film is not None:
            x = self.film(x, condition)
        x = self.conv_0.conv_1(x)
        features = [x]
        for down in self.downs:
            x = down(x)
            features.append(x)
        return features

    @torch.jit.export
    def decode(self, features: list[Tensor]) -> Tensor:
        """Full-resolution feature map, B decoder_channels H W, from what ``encode`` returns."""
        level = len(features) - 1
        x = features[level]
        for up in self.ups:
            level -= 1
            x = up(x, features[level])
        return x

    @torch.jit.export
    def head(self, decoded: Tensor) -> Tensor:
        """Logits, B out_channels H W, from what ``decode`` returns."""
        return self.final_conv(decoded)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits, B out_channels H W, of an image with the planes of its condition, B C+F H W."""
        image, condition = split_condition(x, self.in_channels, len(self.condition_features))
        return self.head(self.decode(self.encode(image, condition)))
