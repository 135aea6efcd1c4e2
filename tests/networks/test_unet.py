"""MONAI's BasicUNet, opened between encoder and decoder."""

import pytest
import torch
from monai.networks.nets import BasicUNet

from mtmed.errors import InputError
from mtmed.networks import UNet, build_network, load_network, save_network

FEATURES = (4, 4, 8, 8, 16, 4)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_equal_those_of_monai_with_the_same_weights(spatial_dims: int) -> None:
    network = UNet(in_channels=2, out_channels=3, features=FEATURES, spatial_dims=spatial_dims).eval()
    stock = BasicUNet(spatial_dims=spatial_dims, in_channels=2, out_channels=3, features=FEATURES).eval()
    stock.load_state_dict(network.state_dict())
    image = torch.rand(1, 2, *[32] * spatial_dims)
    assert torch.equal(network(image), stock(image))


def test_feature_maps_have_the_declared_channels_and_strides() -> None:
    network = UNet(in_channels=1, out_channels=2, features=FEATURES)
    features = network.encode(torch.rand(2, 1, 32, 48, 32))
    assert [f.shape[1] for f in features] == network.level_channels
    assert [tuple(f.shape[2:]) for f in features] == [(32 // s, 48 // s, 32 // s) for s in network.level_strides]
    assert network.decode(features).shape == (2, network.decoder_channels, 32, 48, 32)


def test_sides_that_are_no_multiple_of_16_keep_their_size() -> None:
    network = UNet(in_channels=1, out_channels=2, features=FEATURES)
    assert network(torch.rand(1, 1, 37, 33, 50)).shape == (1, 2, 37, 33, 50)


def test_scripted_network_gives_the_same_logits() -> None:
    network = UNet(in_channels=1, out_channels=2, features=FEATURES).eval()
    image = torch.rand(1, 1, 32, 32, 32)
    assert torch.allclose(torch.jit.script(network)(image), network(image), atol=1e-6)


def test_the_encoder_is_what_encode_reaches_and_nothing_else() -> None:
    network = UNet(in_channels=1, out_channels=2, features=FEATURES)
    sum(level.sum() for level in network.encode(torch.rand(1, 1, 32, 32, 32))).backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}


def test_it_is_rebuilt_from_its_weights_file(tmp_path) -> None:
    norm = ["group", {"num_groups": 2}]
    definition = {"_target_": "mtmed.networks.UNet", "in_channels": 1, "out_channels": 2, "features": list(FEATURES)}
    network = build_network({**definition, "norm": norm}).eval()
    save_network(tmp_path / "model.pt", network, {})
    image = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(load_network(tmp_path / "model.pt")[0](image), network(image))


def test_another_number_of_levels_is_refused() -> None:
    with pytest.raises(InputError, match="six numbers of channels"):
        build_network({"_target_": "mtmed.networks.UNet", "in_channels": 1, "out_channels": 2, "features": [4, 8]})
