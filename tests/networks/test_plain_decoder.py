"""The decoder without skips."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtmed.networks import PlainDecoder


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Three blocks of two convolutions, two, two and four times up, written with functions."""
    for block, scale in enumerate((2, 2, 4)):
        for number in range(2):
            name = f"blocks.{block}.{number}"
            x = functional.group_norm(x, 4, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]).relu()
            weight, bias = (state[f"{name}.convolutions.0.{kind}"] for kind in ("weight", "bias"))
            x = functional.conv3d(x, weight, bias, padding=1)
        name = f"upsamples.{block}.deconv"
        x = functional.conv_transpose3d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=scale)
    return x


def test_it_leads_from_the_coarsest_map_to_an_image() -> None:
    torch.manual_seed(0)
    decoder = PlainDecoder(in_channels=144, stride=16, out_channels=1).double()
    channels = [(block[0].norm.num_channels, block[1].norm.num_channels) for block in decoder.blocks]
    assert channels == [(144, 128), (64, 32), (16, 16)]
    feature_map = torch.randn(2, 144, 2, 1, 3, dtype=torch.float64)
    image = decoder(feature_map)
    assert image.shape == (2, 1, 32, 16, 48)
    torch.testing.assert_close(image, reference(decoder.state_dict(), feature_map))


def test_parameters_are_as_many_as_counted_by_hand() -> None:
    def normalised(channels: int, out: int) -> int:
        return 2 * channels + 27 * channels * out + out

    blocks = [(144, 128), (128, 128), (64, 32), (32, 32), (16, 16), (16, 16)]
    upsamples = (8 * 128 * 64 + 64) + (8 * 32 * 16 + 16) + (64 * 16 + 1)
    decoder = PlainDecoder(in_channels=144, stride=16, out_channels=1)
    counted = sum(normalised(*pair) for pair in blocks) + upsamples
    assert sum(parameter.numel() for parameter in decoder.parameters()) == counted


@pytest.mark.parametrize(("stride", "features"), [(8, (8, 8, 4)), (4, (8, 8, 4, 4, 4)), (1, (4,)), (6, (8, 4, 4))])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_any_stride_that_its_halvings_divide(stride: int, features: tuple[int, ...], spatial_dims: int) -> None:
    decoder = PlainDecoder(
        in_channels=8, stride=stride, out_channels=2, features=features, groups=2, spatial_dims=spatial_dims
    )
    image = decoder(torch.rand(1, 8, *(3, 2, 2)[:spatial_dims]))
    assert image.shape == (1, 2, *(side * stride for side in (3, 2, 2)[:spatial_dims]))
    image.sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_scripted_decoder_gives_the_same_image() -> None:
    decoder = PlainDecoder(in_channels=16, stride=16, out_channels=1)
    feature_map = torch.rand(1, 16, 2, 2, 2)
    torch.testing.assert_close(torch.jit.script(decoder)(feature_map), decoder(feature_map), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"features": (128, 64)}, "odd number"),
        ({"features": (8, 0, 4)}, "features"),
        ({"stride": 6}, "multiple of 4"),
        ({"stride": 0}, "stride"),
        ({"in_channels": 18}, "does not divide 18"),
        ({"groups": 32}, "groups is 32"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        PlainDecoder(**{"in_channels": 144, "stride": 16, "out_channels": 1, **options})
