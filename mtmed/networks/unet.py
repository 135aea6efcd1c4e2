"""MONAI's BasicUNet, opened between encoder and decoder."""

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet

__all__ = ["UNet"]


class UNet(BasicUNet):
    """U-Net of five levels whose encoder and decoder can be called apart; ``forward`` equals MONAI's BasicUNet.

    Each level is two convolutions with normalisation, levels are joined by max pooling and transposed convolutions. It
    takes any image size; sides that are no multiple of 16 are padded inside. Source: Cicek et al. 2016, "3D U-Net",
    as in MONAI.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        features: channels of the five levels, fine to coarse, and of the decoded map.
        norm: normalisation of the convolution blocks, as in MONAI: a name, or a name with its arguments.
        dropout: share of the units dropped in training.
        upsample: ``"deconv"`` or ``"nontrainable"``, as in MONAI.
        spatial_dims: 2 or 3.

    Attributes:
        level_channels: channels of the feature maps, fine to coarse.
        level_strides: their strides.
        in_channels: channels of the image.
        decoder_channels: channels of what ``decode`` returns.
        image_size: None, because any size is accepted.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: if there are not six numbers of features.
    """

    encoder_prefixes = ("conv_0.", "down_")

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (16, 32, 64, 128, 256, 16),
        norm: str | Sequence[object] = ("instance", {"affine": True}),
        dropout: float = 0.0,
        upsample: str = "deconv",
        spatial_dims: int = 3,
    ) -> None:
        if len(features) != 6 or min(features) < 1:
            raise ValueError(
                f"features is {list(features)}; give six numbers of channels: five levels and the last map."
            )
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            features=tuple(features),
            norm=norm if isinstance(norm, str) else tuple(norm),
            dropout=dropout,
            upsample=upsample,
        )
        self.level_channels = list(features[:5])
        self.level_strides = [1, 2, 4, 8, 16]
        self.in_channels = in_channels
        self.decoder_channels = features[5]
        self.image_size = None
        self.spatial_dims = spatial_dims

    @torch.jit.export
    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of an image B C H W [D], fine to coarse: five maps, B C_l H/s_l W/s_l [D/s_l]."""
        x0 = self.conv_0(image)
        x1 = self.down_1(x0)
        x2 = self.down_2(x1)
        x3 = self.down_3(x2)
        return [x0, x1, x2, x3, self.down_4(x3)]

    @torch.jit.export
    def decode(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Full-resolution feature map, B decoder_channels H W [D], from what ``encode`` returns."""
        x = self.upcat_4(features[4], features[3])
        x = self.upcat_3(x, features[2])
        x = self.upcat_2(x, features[1])
        return self.upcat_1(x, features[0])  # type: ignore[no-any-return]

    @torch.jit.export
    def head(self, decoded: torch.Tensor) -> torch.Tensor:
        """Logits, B out_channels H W [D], from what ``decode`` returns."""
        return self.final_conv(decoded)  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, B out_channels H W [D], of an image, B C H W [D]."""
        return self.head(self.decode(self.encode(x)))
