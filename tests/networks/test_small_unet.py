"""The small U-Net: MONAI's with batch normalisation and ReLU, opened, with any depth and a condition."""

from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from mtmed.errors import InputError
from mtmed.networks import (
    SmallUNet,
    build_network,
    load_network,
    network_definition,
    save_encoder,
    save_network,
    transfer_encoder,
)

FILM: dict[str, Any] = {"features": ["slice_position", "day_number"], "mean": [0.5, 9.0], "deviation": [0.3, 7.0]}
SMALL: dict[str, Any] = {"in_channels": 1, "out_channels": 3, "base_channels": 6}


def make(**options: Any) -> SmallUNet:
    torch.manual_seed(0)
    network = SmallUNet(**{**SMALL, **options})
    if network.film is not None:
        for parameter in network.film.parameters():
            nn.init.normal_(parameter, std=0.3)
    return network


def with_planes(image: Tensor, condition: Tensor) -> Tensor:
    return torch.cat([image, condition[:, :, None, None].expand(-1, -1, *image.shape[2:])], 1)


@pytest.mark.parametrize("size", [(32, 48), (37, 50)])
@pytest.mark.parametrize("training", [False, True])
def test_four_poolings_equal_monais_basic_unet(size: tuple[int, int], training: bool) -> None:
    ours = make().train(training)
    theirs = BasicUNet(
        spatial_dims=2, in_channels=1, out_channels=3, features=(6, 12, 24, 48, 96, 6), act="relu", norm="batch"
    )
    state = theirs.state_dict()
    assert len(state) == len(ours.state_dict())
    theirs.load_state_dict(dict(zip(state, ours.state_dict().values(), strict=True)))
    image = torch.rand(2, 1, *size)
    assert torch.equal(theirs.train(training)(image), ours(image))


def test_by_default_it_has_the_papers_48_channels_and_doubles_them() -> None:
    with torch.device("meta"):
        network, deep = (SmallUNet(in_channels=1, out_channels=3, depth=depth) for depth in (4, 5))
        narrow = SmallUNet(in_channels=1, out_channels=3, depth=5, maximum_channels=384)
    assert network.level_channels == [48, 96, 192, 384, 768]
    assert deep.level_channels[-1] == 1536
    assert narrow.level_channels == [48, 96, 192, 384, 384, 384]
    assert deep.level_strides == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "options", [{}, {"depth": 5}, {"depth": 1}, {"depth": 3, "maximum_channels": 12}, {"film": FILM}]
)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (61, 40)])
def test_levels_are_as_the_attributes_say_for_any_size(options: dict[str, Any], size: tuple[int, int]) -> None:
    network = make(**options).eval()
    features = network.encode(torch.rand(2, 1, *size))
    assert [level.shape[1] for level in features] == network.level_channels
    for level, stride in zip(features, network.level_strides, strict=True):
        assert level.shape[2:] == tuple(side // stride for side in size)
    decoded = network.decode(features)
    assert decoded.shape == (2, network.decoder_channels, *size)
    assert network.head(decoded).shape == (2, 3, *size)


@pytest.mark.parametrize("options", [{}, {"depth": 3, "maximum_channels": 12, "dropout": 0.2}, {"film": FILM}])
def test_scripted_and_exported_networks_give_the_same_logits(options: dict[str, Any]) -> None:
    network = make(**options).eval()
    image, condition = torch.rand(2, 1, 33, 20), torch.tensor([[0.2, 3.0], [torch.nan, 20.0]])
    given = with_planes(image, condition) if options.get("film") else image
    scripted = torch.jit.script(network)
    with torch.no_grad():
        torch.testing.assert_close(scripted(given), network(given), rtol=1e-4, atol=1e-5)
        program = torch.export.export(network, (given,))
        torch.testing.assert_close(program.module()(given), network(given), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(scripted.encode(image, condition), network.encode(image, condition), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_planes_in_the_image_are_the_condition() -> None:
    network = make(film=FILM).eval()
    image, condition = torch.rand(3, 1, 32, 23), torch.tensor([[0.2, 3.0], [torch.nan, 20.0], [1.0, torch.nan]])
    expected = network.head(network.decode(network.encode(image, condition)))
    assert torch.equal(network(with_planes(image, condition)), expected)
    unknown = network.head(network.decode(network.encode(image)))
    assert torch.equal(network(with_planes(image, torch.full((3, 2), torch.nan))), unknown)
    assert not torch.allclose(expected, unknown)


def test_a_new_condition_changes_nothing() -> None:
    torch.manual_seed(0)
    told = SmallUNet(**SMALL, film=FILM)
    plain = SmallUNet(**SMALL)
    plain.load_state_dict({name: value for name, value in told.state_dict().items() if not name.startswith("film.")})
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(told(with_planes(image, torch.rand(2, 2))), plain(image))
    assert told.condition_features == ("slice_position", "day_number")
    assert plain.condition_features == ()


def test_the_condition_changes_the_output_of_the_first_convolution_only() -> None:
    network = make(film=FILM).eval()
    seen: list[Tensor] = []
    network.conv_0.conv_1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image, condition = torch.rand(1, 1, 16, 16), torch.tensor([[0.1, 2.0]])
    network.encode(image, condition)
    assert network.film is not None
    assert torch.equal(seen[0], network.film(network.conv_0.conv_0(image), condition))
    parts = [type(part).__name__ for part in network.conv_0.conv_0.modules() if not list(part.children())]
    assert parts == ["Conv2d", "BatchNorm2d", "Dropout", "ReLU"]


def test_a_step_of_training_reaches_the_whole_condition() -> None:
    torch.manual_seed(0)
    network = SmallUNet(**SMALL, film=FILM)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    image, condition = torch.rand(3, 1, 32, 32), torch.rand(3, 2)
    for _ in range(2):
        optimiser.zero_grad()
        network(with_planes(image, condition)).square().mean().backward()
        optimiser.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.film.parameters())


def test_the_encoder_is_what_encode_reaches_and_nothing_else() -> None:
    network = make(film=FILM)
    network.encode(torch.rand(2, 1, 32, 32), torch.rand(2, 2))[-1].sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}


def test_it_is_rebuilt_from_its_weights_file_and_hands_on_its_encoder(tmp_path: Any) -> None:
    definition = {"_target_": "mtmed.networks.SmallUNet", **SMALL, "film": FILM}
    network: Any = build_network(definition).eval()
    nn.init.normal_(network.film.shift[-1].weight)
    save_network(tmp_path / "model.pt", network, {})
    given = torch.rand(2, 3, 32, 32)
    again: Any = load_network(tmp_path / "model.pt")[0]
    assert torch.equal(again(given), network(given))
    assert again.condition_features == tuple(FILM["features"])
    assert network_definition(again) == definition
    save_encoder(tmp_path / "encoder.pt", network, {})
    fresh: Any = build_network(definition).eval()
    report = transfer_encoder(fresh, tmp_path / "encoder.pt")
    assert len(report.transferred) == report.expected
    assert all(name.startswith(("ups.", "final_conv.")) for name in report.fresh)
    assert torch.equal(fresh.encode(given[:, :1])[-1], network.encode(given[:, :1])[-1])


def test_a_definition_with_an_unusable_condition_is_one_line() -> None:
    definition = {"_target_": "mtmed.networks.SmallUNet", **SMALL}
    with pytest.raises(InputError, match="mean has 1 numbers for 2 features"):
        build_network({**definition, "film": {**FILM, "mean": [1]}})
    with pytest.raises(InputError, match="unexpected keyword argument 'names'"):
        build_network({**definition, "film": {"names": ["a"]}})


@pytest.mark.parametrize(
    "options", [{"in_channels": 0}, {"out_channels": 0}, {"depth": 0}, {"base_channels": 1}, {"maximum_channels": 5}]
)
def test_unusable_arguments_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="base_channels"):
        make(**options)
