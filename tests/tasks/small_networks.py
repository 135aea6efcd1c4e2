"""Tiny networks of the kinds that `slice_batches` has not: batch normalisation, and one fixed image size."""

import torch

from mtmed.networks import UNETR, SmallUNet


def make_small_unet() -> SmallUNet:
    torch.manual_seed(0)
    return SmallUNet(in_channels=1, out_channels=2, base_channels=4, depth=2)


def make_unetr() -> UNETR:
    torch.manual_seed(0)
    return UNETR(
        in_channels=1,
        out_channels=2,
        img_size=(32, 32, 16),
        feature_size=4,
        hidden_size=24,
        mlp_dim=48,
        num_heads=2,
    )
