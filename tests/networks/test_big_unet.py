"""The big U-Net: levels, any size, frozen layers, a condition."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtmed.networks import BigUNet, build_network, load_network, save_encoder, save_network, transfer_encoder

FILM: dict[str, Any] = {"features": ["slice_position", "day_number"], "mean": [0.5, 9.0], "deviation": [0.3, 7.0]}


def make(**options: Any) -> BigUNet:
    torch.manual_seed(0)
    network = BigUNet(**{"in_channels": 1, "out_channels": 3, **options})
    if network.film is not None:
        for parameter in network.film.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(scope="module")
def plain() -> BigUNet:
    return make().eval()


@pytest.fixture(scope="module")
def told() -> BigUNet:
    return make(film=FILM).eval()


def with_planes(image: Tensor, condition: Tensor) -> Tensor:
    return torch.cat([image, condition[:, :, None, None].expand(-1, -1, *image.shape[2:])], 1)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (16, 1), (50, 61)])
def test_levels_are_as_the_attributes_say_for_any_size(plain: BigUNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        features = plain.encode(torch.rand(2, 1, *size))
        padded = [-(-side // 16) * 16 for side in size]
        assert [level.shape[1] for level in features] == plain.level_channels == [1, 64, 256, 512, 1024]
        for level, stride in zip(features, plain.level_strides, strict=True):
            assert list(level.shape[2:]) == [side // stride for side in padded]
        assert plain.decode(features).shape == (2, plain.decoder_channels, *padded)
        assert plain(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_the_decoder_has_the_channels_of_the_source(plain: BigUNet) -> None:
    widths = []
    for up in plain.ups:
        first, second, raised = up.convs.conv_0.conv, up.convs.conv_1.conv, up.upsample[0]
        widths.append((raised.in_channels, raised.out_channels, first.in_channels, second.out_channels))
    assert widths == [(1024, 512, 1024, 512), (512, 256, 512, 256), (256, 128, 192, 128), (128, 64, 65, 64)]
    assert plain.bridge.conv_1.conv.out_channels == 1024


def test_an_image_that_is_padded_gets_the_middle_of_what_the_padded_image_gets(plain: BigUNet) -> None:
    image = torch.rand(1, 1, 30, 45)
    padded = nn.functional.pad(image, (1, 2, 1, 1))
    with torch.no_grad():
        torch.testing.assert_close(plain(image), plain(padded)[:, :, 1:31, 1:46], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("film", [False, True])
def test_scripted_networks_give_the_same_logits(plain: BigUNet, told: BigUNet, film: bool) -> None:
    network = told if film else plain
    image, condition = torch.rand(2, 1, 33, 20), torch.tensor([[0.2, 3.0], [torch.nan, 20.0]])
    given = with_planes(image, condition) if film else image
    scripted = torch.jit.script(network)
    with torch.no_grad():
        torch.testing.assert_close(scripted(given), network(given), rtol=1e-4, atol=1e-4)
        for ours, theirs in zip(scripted.encode(image, condition), network.encode(image, condition), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_an_exported_network_gives_the_same_logits(told: BigUNet) -> None:
    given = torch.rand(2, 3, 33, 20)
    with torch.no_grad():
        program = torch.export.export(told, (given,))
        torch.testing.assert_close(program.module()(given), told(given), rtol=1e-4, atol=1e-4)


def test_planes_in_the_image_are_the_condition(told: BigUNet) -> None:
    image, condition = torch.rand(2, 1, 23, 32), torch.tensor([[0.2, 3.0], [torch.nan, 20.0]])
    with torch.no_grad():
        features = told.encode(image, condition)
        expected = told.head(told.decode(features))[:, :, 4:27]
        assert torch.equal(told(with_planes(image, condition)), expected)
        assert not torch.equal(features[1], told.encode(image)[1])


def test_a_new_condition_changes_nothing(plain: BigUNet) -> None:
    torch.manual_seed(0)
    network = BigUNet(in_channels=1, out_channels=3, film=FILM).eval()
    missing = network.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(name.startswith("film.") for name in missing)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(with_planes(image, torch.rand(2, 2))), plain(image))


def test_frozen_layers_get_no_gradient_and_keep_their_statistics() -> None:
    network = make(film=FILM, freeze_first=True).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = with_planes(torch.rand(2, 1, 32, 32), torch.rand(2, 2))
    optimiser = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), lr=0.01, weight_decay=0.1)
    network(given).square().mean().backward()
    optimiser.step()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder."), name
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("encoder.") for name in changed)
    assert {"bridge.conv_0.adn.N.running_mean", "film.scale.0.weight", "final_conv.weight"} <= changed
    assert network.training
    assert network.bridge.training
    assert not any(module.training for module in network.encoder.modules())
    assert not any(module.training for module in network.eval().modules())


def test_layers_that_are_not_frozen_learn() -> None:
    network = make().train()
    before = network.encoder["bn1"].running_mean.clone()
    network(torch.rand(2, 1, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert not torch.equal(network.encoder["bn1"].running_mean, before)


def test_the_encoder_is_what_encode_reaches_and_nothing_else() -> None:
    network = make(film=FILM)
    network.encode(torch.rand(2, 1, 32, 32), torch.rand(2, 2))[-1].sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}


def test_it_is_rebuilt_from_its_weights_file_and_hands_on_its_encoder(tmp_path: Any) -> None:
    definition = {"_target_": "mtmed.networks.BigUNet", "in_channels": 1, "out_channels": 2, "film": FILM}
    network: Any = build_network(definition).eval()
    given = torch.rand(1, 3, 16, 32)
    save_network(tmp_path / "model.pt", network, {})
    assert torch.equal(load_network(tmp_path / "model.pt")[0](given), network(given))
    save_encoder(tmp_path / "encoder.pt", network, {})
    report = transfer_encoder(build_network({**definition, "freeze_first": True}), tmp_path / "encoder.pt")
    assert len(report.transferred) == report.expected
    assert all(name.startswith(("ups.", "final_conv.")) for name in report.fresh)


def test_unusable_arguments_are_named() -> None:
    for options in ({"in_channels": 0}, {"out_channels": 0}):
        with pytest.raises(ValueError, match="give numbers from 1"):
            make(**options)
