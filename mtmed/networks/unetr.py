"""MONAI's UNETR, opened between encoder and decoder."""

from collections.abc import Sequence

import torch
from monai.networks.nets import UNETR as MonaiUNETR  # noqa: N811

__all__ = ["UNETR"]


class UNETR(MonaiUNETR):
    """UNETR whose encoder and decoder can be called apart; ``forward`` equals MONAI's, weight for weight.

    The encoder is all that feeds the decoder: the vision transformer with its patch embedding and the four skip
    encoders. Its feature maps, fine to coarse, for an image of side 96 and the default widths:

    ======  ========  ====  ======
    level   channels  side  stride
    ======  ========  ====  ======
    0       16        96    1
    1       32        48    2
    2       64        24    4
    3       128       12    8
    4       768       6     16
    ======  ========  ====  ======

    Source: Hatamizadeh et al. 2022, "UNETR"; MixCL (Li et al. 2022) uses it with the same settings. The paper's "layers
    of the encoder" are read as these five maps, because their channels differ, which those of the transformer do not.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        img_size: the one spatial size the network accepts, in voxels; each a multiple of 16.
        feature_size: channels of level 0; level l has ``feature_size * 2**l`` up to level 3.
        hidden_size: channels of the transformer and of level 4.
        mlp_dim: width of the transformer's perceptrons.
        num_heads: attention heads; divides ``hidden_size``.
        norm_name: normalisation of the convolution blocks.
        dropout_rate: share of the units dropped in training.
        spatial_dims: 2 or 3.

    Attributes:
        level_channels: channels of the feature maps, fine to coarse.
        level_strides: their strides.
        in_channels: channels of the image.
        decoder_channels: channels of what ``decode`` returns.
        image_size: the spatial size the network accepts.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: if a side of ``img_size`` is not a multiple of 16.
    """

    encoder_prefixes = ("vit.", "encoder1.", "encoder2.", "encoder3.", "encoder4.")

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        img_size: Sequence[int],
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        norm_name: str = "instance",
        dropout_rate: float = 0.0,
        spatial_dims: int = 3,
    ) -> None:
        if len(img_size) != spatial_dims or any(side <= 0 or side % 16 for side in img_size):
            raise ValueError(f"img_size is {list(img_size)}; give {spatial_dims} sides, each a multiple of 16.")
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            img_size=tuple(img_size),
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            norm_name=norm_name,
            dropout_rate=dropout_rate,
            spatial_dims=spatial_dims,
        )
        self.level_channels = [feature_size, feature_size * 2, feature_size * 4, feature_size * 8, hidden_size]
        self.level_strides = [1, 2, 4, 8, 16]
        self.in_channels = in_channels
        self.decoder_channels = feature_size
        self.image_size = list(img_size)
        self.spatial_dims = spatial_dims
        # MONAI's transformer blocks carry a cross-attention norm that UNETR never calls; without a gradient it would
        # stop distributed training at the second step.
        for name, parameter in self.named_parameters():
            if "norm_cross_attn" in name:
                parameter.requires_grad = False

    @torch.jit.export
    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of an image, fine to coarse.

        Args:
            image: B C H W [D], of the size ``image_size``.

        Returns:
            Five maps, B C_l H/s_l W/s_l [D/s_l].
        """
        coarse, hidden = self.vit(image)
        return [
            self.encoder1(image),
            self.encoder2(self.proj_feat(hidden[3])),
            self.encoder3(self.proj_feat(hidden[6])),
            self.encoder4(self.proj_feat(hidden[9])),
            self.proj_feat(coarse),
        ]

    @torch.jit.export
    def decode(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Full-resolution feature map, B decoder_channels H W [D], from what ``encode`` returns."""
        x = self.decoder5(features[4], features[3])
        x = self.decoder4(x, features[2])
        x = self.decoder3(x, features[1])
        return self.decoder2(x, features[0])  # type: ignore[no-any-return]

    @torch.jit.export
    def head(self, decoded: torch.Tensor) -> torch.Tensor:
        """Logits, B out_channels H W [D], from what ``decode`` returns."""
        return self.out(decoded)  # type: ignore[no-any-return]

    def forward(self, x_in: torch.Tensor) -> torch.Tensor:
        """Logits, B out_channels H W [D], of an image, B C H W [D]."""
        return self.head(self.decode(self.encode(x_in)))
