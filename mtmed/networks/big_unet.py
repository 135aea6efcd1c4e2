"""The big 2D U-Net of the GI tract paper: a ResNet-50 encoder that may start from ImageNet weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets.basic_unet import TwoConv, UpCat
from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn

from mtmed.networks.centre_padding import crop_centre, pad_centre
from mtmed.networks.film import make_film, split_condition
from mtmed.networks.imagenet_weights import load_imagenet_weights

__all__ = ["BigUNet"]


class BigUNet(nn.Module):
    """2D U-Net whose encoder is a ResNet-50 without its last stage.

    ========  ========  ======  ==========================================  ===================
    level     channels  stride  encoder                                     decoder
    ========  ========  ======  ==========================================  ===================
    0         C         1       the image itself                            128 up to 64, to 64
    1         64        2       stem: 7 x 7 convolution of stride 2         256 up to 128, to 128
    2         256       4       max pooling and the first stage             512 up to 256, to 256
    3         512       8       second stage                                1024 up to 512, to 512
    4         1024      16      third stage, then two 3 x 3 convolutions    -
    ========  ========  ======  ==========================================  ===================

    Each step of the decoder is a transposed convolution, the concatenation with the encoder's map and two 3 x 3
    convolutions with batch normalisation and ReLU. Images whose sides are no multiples of 16 get zeros around them;
    ``forward`` crops to the image again.

    With `film` the output of the stem (convolution, normalisation, ReLU) is scaled and shifted by what is known about
    the image, see `FiLM`.

    Source: Chia, Gu, Lui 2022, "Big UNet", which leaves the last stage out of
    https://github.com/kevinlu1211/pytorch-unet-resnet-50-encoder; the encoder is MONAI's, with torchvision's names.

    Args:
        in_channels: channels of the image, without planes of a condition.
        out_channels: channels of the logits.
        imagenet_weights: file of torchvision's ResNet-50, ``.pth`` or ``.safetensors``; None for a random start. It is
            not remembered in weights files.
        freeze_first: the encoder's first four layers get no gradient, and keep the statistics of their normalisation.
            Our reading: the paper calls what has one number of channels a layer, so these are the stem and the three
            stages, all that is kept of the ResNet-50; the two convolutions after them are trained.
        film: ``{"features": [...], "mean": [...], "deviation": [...], "hidden": 64}``, see `FiLM`; None for a network
            that knows the image only.

    Attributes:
        level_channels: channels of the feature maps, fine to coarse.
        level_strides: their strides.
        in_channels: channels of the image, without planes of a condition.
        decoder_channels: channels of what ``decode`` returns.
        image_size: None, because any size is accepted.
        spatial_dims: 2.
        condition_features: names of the numbers that ``encode`` takes as its condition; empty without `film`.

    Raises:
        ValueError: if a number of channels is below 1, or `film` is not usable.
        InputError: if the file is not there, is of another kind, or does not fill the whole encoder.
    """

    encoder_prefixes = ("encoder.", "bridge.", "film.")
    start_arguments = ("imagenet_weights",)

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        imagenet_weights: str | Path | None = None,
        freeze_first: bool = False,
        film: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"in_channels is {in_channels} and out_channels is {out_channels}; give numbers from 1.")
        resnet = ResNet(
            "bottleneck",
            layers=[3, 4, 6, 3],
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        kept = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3")
        self.encoder = nn.ModuleDict({name: getattr(resnet, name) for name in kept})
        if imagenet_weights is not None:
            load_imagenet_weights(self.encoder, imagenet_weights)
        self.encoder.requires_grad_(not freeze_first)
        self.freeze_first = freeze_first
        self.film = make_film(film, 64)
        options = {"act": ("relu", {"inplace": True}), "norm": "batch", "bias": True}
        self.bridge = TwoConv(2, 1024, 1024, **options)
        self.ups = nn.ModuleList(
            UpCat(2, coarse, skip, coarse // 2, **options)
            for coarse, skip in ((1024, 512), (512, 256), (256, 64), (128, in_channels))
        )
        self.final_conv = Conv["conv", 2](64, out_channels, kernel_size=1)

        self.level_channels = [in_channels, 64, 256, 512, 1024]
        self.level_strides = [1, 2, 4, 8, 16]
        self.in_channels = in_channels
        self.decoder_channels = 64
        self.image_size = None
        self.spatial_dims = 2
        self.condition_features = self.film.features if self.film is not None else ()

    def train(self, mode: bool = True) -> Self:
        """As for every module, but frozen layers stay as in evaluation."""
        super().train(mode)
        if self.freeze_first:
            self.encoder.eval()
        return self

    @torch.jit.export
    def encode(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Feature maps of an image B C H W, fine to coarse: five maps, B C_l H'/s_l W'/s_l, the first the image itself.

        H', W' are the sides padded to multiples of 16.

        Args:
            image: B C H W, without planes of a condition.
            condition: B F, the numbers named in ``condition_features``, NaN where one is unknown; None if all are.
        """
        image = pad_centre(image, 16)
        stem = self.encoder["act"](self.encoder["bn1"](self.encoder["conv1"](image)))
        if self.film is not None:
            stem = self.film(stem, condition)
        first = self.encoder["layer1"](self.encoder["maxpool"](stem))
        second = self.encoder["layer2"](first)
        return [image, stem, first, second, self.bridge(self.encoder["layer3"](second))]

    @torch.jit.export
    def decode(self, features: list[Tensor]) -> Tensor:
        """Full-resolution feature map, B decoder_channels H' W', from what ``encode`` returns."""
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
        return self.head(crop_centre(self.decode(self.encode(image, condition)), list(x.shape[2:])))
