"""The encoder-decoders of segmentation_models_pytorch, for example DeepLabV3+, as networks of mtmed."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mtmed.errors import InputError
from mtmed.networks.centre_padding import crop_centre, pad_centre

__all__ = ["SegmentationModel"]


class SegmentationModel(nn.Module):
    """An architecture of segmentation_models_pytorch, opened between encoder, decoder and head.

    Where the library predicts at a lower resolution and enlarges the logits, ``decode`` enlarges the map before: after
    a 1 x 1 convolution, which DeepLab's heads have, the logits are the same. Images whose sides are no multiples of the
    largest stride get zeros around them; ``forward`` crops to the image again.

    Source: https://github.com/qubvel-org/segmentation_models.pytorch; Chen et al. 2018, "Encoder-Decoder with Atrous
    Separable Convolution for Semantic Image Segmentation" for DeepLabV3+.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits.
        architecture: name of the library's class, for example ``"DeepLabV3Plus"``, ``"Unet"``, ``"FPN"``.
        encoder: the library's name of the encoder, for example ``"resnet50"``.
        encoder_weights: the library's name of weights to download, for example ``"imagenet"``; None for a random start.
            It is not remembered in weights files.

    Attributes:
        level_channels: channels of the feature maps, fine to coarse, the image itself first.
        level_strides: their strides.
        in_channels: channels of the image.
        decoder_channels: channels of what ``decode`` returns.
        image_size: None, because any size is accepted.
        spatial_dims: 2.
        condition_features: empty, since the library has no place for a condition.

    Raises:
        InputError: if the library is not installed.
        ValueError: if it does not know the architecture or the encoder.
    """

    encoder_prefixes = ("encoder.",)
    start_arguments = ("encoder_weights",)

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        architecture: str = "DeepLabV3Plus",
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import segmentation_models_pytorch as library
        except ImportError as error:
            raise InputError(
                "segmentation-models-pytorch", "is not installed", 'python -m pip install "mtmed[architectures]"'
            ) from error
        except RuntimeError as error:
            # torchvision, which the library imports, says so when it was built for another torch
            raise InputError(
                "segmentation-models-pytorch",
                f"cannot be imported: {error}",
                "install the torchvision that belongs to this torch (both for CUDA or both for CPU)",
            ) from error
        try:
            model: Any = library.create_model(
                architecture,
                encoder_name=encoder,
                encoder_weights=encoder_weights,
                in_channels=in_channels,
                classes=out_channels,
            )
        except KeyError as error:
            problem = f"{error.args[0]}; correct architecture ({architecture}) or encoder ({encoder})."
            raise ValueError(problem) from error
        self.encoder, self.decoder = model.encoder, model.decoder
        self.final_conv, self.enlarge, _ = model.segmentation_head

        self.level_channels = list(self.encoder.out_channels)
        self.in_channels = in_channels
        self.decoder_channels: int = self.final_conv.in_channels
        self.image_size = None
        self.spatial_dims = 2
        self.condition_features = ()
        self.multiple: int = self.encoder.output_stride
        self.level_strides = self._measured_strides()

    def _measured_strides(self) -> list[int]:
        """Strides of the encoder's maps, which dilated stages keep, from a pass without data."""
        side = 4 * self.multiple
        features = copy.deepcopy(self).to("meta").eval().encode(torch.empty(1, self.in_channels, side, side).to("meta"))
        return [side // level.shape[2] for level in features]

    @torch.jit.export
    def encode(self, image: Tensor) -> list[Tensor]:
        """Feature maps of an image B C H W, fine to coarse: B C_l H'/s_l W'/s_l, the first the image itself.

        H', W' are the sides padded to multiples of the largest stride.
        """
        return self.encoder(pad_centre(image, self.multiple))  # type: ignore[no-any-return]

    @torch.jit.export
    def decode(self, features: list[Tensor]) -> Tensor:
        """Full-resolution feature map, B decoder_channels H' W', from what ``encode`` returns."""
        return self.enlarge(self.decoder(features))  # type: ignore[no-any-return]

    @torch.jit.export
    def head(self, decoded: Tensor) -> Tensor:
        """Logits, B out_channels H W, from what ``decode`` returns."""
        return self.final_conv(decoded)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits, B out_channels H W, of an image, B C H W."""
        return self.head(crop_centre(self.decode(self.encode(x)), list(x.shape[2:])))
