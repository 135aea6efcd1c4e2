"""Patches that a network cannot take are refused before the training."""

import pytest
import torch

from mtmed.bundle import require_patch_size
from mtmed.errors import InputError
from mtmed.networks import UNETR, DenseUNet, UNet


def unet() -> UNet:
    return UNet(in_channels=1, out_channels=1, features=[2] * 6)


@pytest.mark.parametrize("size", [[32, 32, 32], [16, 16, 32], [64, 32, 32]])
def test_patches_that_the_network_takes_pass(size: list[int]) -> None:
    network = unet()
    require_patch_size(size, network)
    assert network(torch.zeros(1, 1, *size)).shape[2:] == torch.Size(size)


@pytest.mark.parametrize("size", [[8, 16, 16], [16, 16, 16], [16, 24, 24]])
def test_patches_without_two_voxels_on_the_coarsest_level_are_refused(size: list[int]) -> None:
    network = unet()
    with pytest.raises(
        InputError, match=r"^patch_size: is .*, too small for the 5 levels .*; give sides of 32 or more"
    ):
        require_patch_size(size, network)
    with pytest.raises((RuntimeError, ValueError)):
        network.train()(torch.zeros(1, 1, *size))


def test_a_network_that_pads_takes_small_patches() -> None:
    require_patch_size([8, 16, 16], DenseUNet(in_channels=1, out_channels=1, block_layers=[1, 1, 1, 1]))


def test_a_network_of_one_size_takes_no_other() -> None:
    network = UNETR(
        in_channels=1, out_channels=1, img_size=[16, 16, 32], feature_size=2, hidden_size=12, mlp_dim=12, num_heads=2
    )
    require_patch_size((16, 16, 32), network)
    with pytest.raises(
        InputError, match=r"is \[32, 32, 32\], the network takes \[16, 16, 32\]; give both the same size"
    ):
        require_patch_size([32, 32, 32], network)
