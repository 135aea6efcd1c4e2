"""UNETR, opened between encoder and decoder."""

import pytest
import torch
from monai.networks.nets import UNETR as MonaiUNETR  # noqa: N811

from mtmed.networks import UNETR

SMALL = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_equal_those_of_monai_with_the_same_weights(spatial_dims: int) -> None:
    size = [32] * spatial_dims
    ours = UNETR(in_channels=2, out_channels=3, img_size=size, spatial_dims=spatial_dims, **SMALL).eval()
    stock = MonaiUNETR(in_channels=2, out_channels=3, img_size=tuple(size), spatial_dims=spatial_dims, **SMALL).eval()
    stock.load_state_dict(ours.state_dict())
    image = torch.rand(1, 2, *size)
    assert torch.equal(ours(image), stock(image))


def test_feature_maps_have_the_declared_channels_and_strides() -> None:
    network = UNETR(in_channels=1, out_channels=2, img_size=[32, 48, 32], **SMALL)
    features = network.encode(torch.rand(2, 1, 32, 48, 32))
    assert [f.shape[1] for f in features] == network.level_channels
    assert [tuple(f.shape[2:]) for f in features] == [(32 // s, 48 // s, 32 // s) for s in network.level_strides]
    assert network.decode(features).shape == (2, network.decoder_channels, 32, 48, 32)


def test_scripted_network_gives_the_same_logits() -> None:
    network = UNETR(in_channels=1, out_channels=2, img_size=[16, 16, 16], **SMALL).eval()
    image = torch.rand(1, 1, 16, 16, 16)
    assert torch.allclose(torch.jit.script(network)(image), network(image), atol=1e-6)


def test_every_parameter_that_needs_a_gradient_gets_one() -> None:
    network = UNETR(in_channels=1, out_channels=2, img_size=[16, 16, 16], **SMALL)
    network(torch.rand(1, 1, 16, 16, 16)).sum().backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_encoder_is_what_encode_reaches_and_nothing_else() -> None:
    network = UNETR(in_channels=1, out_channels=2, img_size=[16, 16, 16], **SMALL)
    sum(level.sum() for level in network.encode(torch.rand(1, 1, 16, 16, 16))).backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    named = {n for n, p in network.named_parameters() if n.startswith(network.encoder_prefixes) and p.requires_grad}
    assert reached == named


@pytest.mark.parametrize("size", [[40, 32, 32], [32, 32], [0, 16, 16]])
def test_a_size_that_is_no_multiple_of_16_is_refused(size: list[int]) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        UNETR(in_channels=1, out_channels=2, img_size=size, **SMALL)
