"""Architectures of segmentation_models_pytorch behind the house's contract."""

from typing import Any

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import SegmentationModel, build_network, load_network, network_definition, save_network

library = pytest.importorskip("segmentation_models_pytorch")


def make(**options: Any) -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(**{"in_channels": 3, "out_channels": 3, "encoder": "resnet18", **options})


@pytest.fixture(scope="module")
def deeplab() -> SegmentationModel:
    return make().eval()


@pytest.mark.parametrize("architecture", ["DeepLabV3Plus", "DeepLabV3", "Unet", "FPN"])
def test_logits_equal_those_of_the_library(architecture: str) -> None:
    ours = make(architecture=architecture).eval()
    theirs = getattr(library, architecture)("resnet18", encoder_weights=None, in_channels=3, classes=3).eval()
    theirs.encoder.load_state_dict(ours.encoder.state_dict())
    theirs.decoder.load_state_dict(ours.decoder.state_dict())
    theirs.segmentation_head[0].load_state_dict(ours.final_conv.state_dict())
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-5)


def test_by_default_it_is_deeplab_on_a_resnet_50() -> None:
    network = SegmentationModel(in_channels=1, out_channels=3)
    assert network.level_channels == [1, 64, 256, 512, 1024, 2048]
    assert network.level_strides == [1, 2, 4, 8, 16, 16]
    assert network.condition_features == ()


@pytest.mark.parametrize("size", [(64, 32), (33, 47), (50, 61)])
def test_levels_are_as_the_attributes_say_for_any_size(deeplab: SegmentationModel, size: tuple[int, int]) -> None:
    padded = [-(-side // 16) * 16 for side in size]
    with torch.no_grad():
        features = deeplab.encode(torch.rand(2, 3, *size))
        assert [level.shape[1] for level in features] == deeplab.level_channels
        for level, stride in zip(features, deeplab.level_strides, strict=True):
            assert list(level.shape[2:]) == [side // stride for side in padded]
        assert deeplab.decode(features).shape == (2, deeplab.decoder_channels, *padded)
        assert deeplab(torch.rand(2, 3, *size)).shape == (2, 3, *size)


def test_scripted_and_exported_networks_give_the_same_logits(deeplab: SegmentationModel) -> None:
    image = torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(deeplab)(image), deeplab(image), rtol=1e-4, atol=1e-5)
        program = torch.export.export(deeplab, (image,))
        torch.testing.assert_close(program.module()(image), deeplab(image), rtol=1e-4, atol=1e-5)


def test_the_encoder_is_what_encode_reaches_and_nothing_else() -> None:
    network = make()
    network.encode(torch.rand(2, 3, 32, 32))[-1].sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, _ in network.named_parameters() if name.startswith(network.encoder_prefixes)}


def test_it_is_rebuilt_from_its_weights_file_without_downloading(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    create = library.create_model

    def without_weights(*arguments: Any, encoder_weights: Any, **options: Any) -> Any:
        asked.append(encoder_weights)
        return create(*arguments, encoder_weights=None, **options)

    monkeypatch.setattr(library, "create_model", without_weights)
    target = {"_target_": "mtmed.networks.SegmentationModel", "in_channels": 3, "out_channels": 2}
    network = build_network({**target, "encoder": "resnet18", "encoder_weights": "imagenet"}).eval()
    save_network(tmp_path / "model.pt", network, {})
    image = torch.rand(1, 3, 32, 32)
    again = load_network(tmp_path / "model.pt")[0]
    assert torch.equal(again(image), network(image))
    assert asked == ["imagenet", None]
    assert network_definition(again) == {**target, "encoder": "resnet18"}


@pytest.mark.parametrize("options", [{"architecture": "DeepLabV9"}, {"encoder": "resnet19"}])
def test_unknown_names_are_one_line(options: dict[str, str]) -> None:
    target = {"_target_": "mtmed.networks.SegmentationModel", "in_channels": 3, "out_channels": 2}
    (name,) = options.values()
    with pytest.raises(InputError, match=name):
        build_network({**target, **options})
