"""Encoder-decoders, projectors and their weights files; no losses, no images."""

from mtmed.networks.definition import build_network, network_definition
from mtmed.networks.dense_unet import DenseUNet
from mtmed.networks.foreground_prior import with_foreground_prior
from mtmed.networks.plain_decoder import PlainDecoder
from mtmed.networks.unet import UNet
from mtmed.networks.unetr import UNETR
from mtmed.networks.weights import (
    TransferReport,
    atomic_save,
    carried,
    load_checkpoint,
    load_network,
    load_weights,
    save_encoder,
    save_network,
    sha256_of,
    transfer_encoder,
)

__all__ = [
    "UNETR",
    "DenseUNet",
    "PlainDecoder",
    "TransferReport",
    "UNet",
    "atomic_save",
    "build_network",
    "carried",
    "load_checkpoint",
    "load_network",
    "load_weights",
    "network_definition",
    "save_encoder",
    "save_network",
    "sha256_of",
    "transfer_encoder",
    "with_foreground_prior",
]
