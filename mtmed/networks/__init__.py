"""Encoder-decoders, projectors and their weights files; no losses, no images."""

from mtmed.networks.big_unet import BigUNet
from mtmed.networks.definition import build_network, network_definition
from mtmed.networks.dense_unet import DenseUNet
from mtmed.networks.film import FiLM
from mtmed.networks.foreground_prior import with_foreground_prior
from mtmed.networks.plain_decoder import PlainDecoder
from mtmed.networks.released_weights import RELEASED, read_released, save_released, weights_beside
from mtmed.networks.segmentation_models import SegmentationModel
from mtmed.networks.shared_weights import save_shared, transfer_shared
from mtmed.networks.small_unet import SmallUNet
from mtmed.networks.teachers import load_teachers, teacher_hashes
from mtmed.networks.transfer import TransferReport, transfer_encoder
from mtmed.networks.unet import UNet
from mtmed.networks.unetr import UNETR
from mtmed.networks.weights import (
    atomic_save,
    carried,
    load_checkpoint,
    load_network,
    load_weights,
    save_encoder,
    save_network,
    sha256_of,
)

__all__ = [
    "RELEASED",
    "UNETR",
    "BigUNet",
    "DenseUNet",
    "FiLM",
    "PlainDecoder",
    "SegmentationModel",
    "SmallUNet",
    "TransferReport",
    "UNet",
    "atomic_save",
    "build_network",
    "carried",
    "load_checkpoint",
    "load_network",
    "load_teachers",
    "load_weights",
    "network_definition",
    "read_released",
    "save_encoder",
    "save_network",
    "save_released",
    "save_shared",
    "sha256_of",
    "teacher_hashes",
    "transfer_encoder",
    "transfer_shared",
    "weights_beside",
    "with_foreground_prior",
]
