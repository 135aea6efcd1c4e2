"""Images that the network would shrink to nothing are refused."""

import pytest
import torch

from mtmed.bundle import require_image_size
from mtmed.errors import InputError
from mtmed.networks import build_network

SMALL = {"_target_": "mtmed.networks.SmallUNet", "in_channels": 1, "out_channels": 1, "base_channels": 2}


@pytest.mark.parametrize("depth", [1, 4, 5])
def test_the_smallest_side_that_passes_goes_through_the_network(depth: int) -> None:
    network = build_network({**SMALL, "depth": depth})
    size = [2**depth, 2**depth + 1]
    require_image_size(size, network)
    assert network(torch.zeros(2, 1, *size)).shape == (2, 1, *size)


def test_a_smaller_side_is_refused_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        require_image_size([16, 40], build_network({**SMALL, "depth": 5}))
    line = "image_size: is [16, 40], too small for 6 levels of the network; give sides of 32 or more, "
    assert str(caught.value) == line + "or a network of fewer levels"


def test_sides_of_a_network_that_pads_are_those_of_its_coarsest_level() -> None:
    network = build_network({"_target_": "mtmed.networks.BigUNet", "in_channels": 1, "out_channels": 1})
    require_image_size([16, 16], network)
    with pytest.raises(InputError, match="image_size: is \\[15, 16\\]"):
        require_image_size([15, 16], network)
