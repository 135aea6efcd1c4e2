"""ImageNet weights arrive whole from a local file, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtmed.errors import InputError
from mtmed.networks import BigUNet, build_network, load_network, network_definition, save_network

DEFINITION: dict[str, Any] = {"_target_": "mtmed.networks.BigUNet", "in_channels": 3, "out_channels": 3}


def resnet50_shapes(stages: int = 4) -> dict[str, list[int]]:
    """Names and shapes in torchvision's ResNet-50 but the counters, from its published architecture."""
    shapes: dict[str, list[int]] = {"conv1.weight": [64, 3, 7, 7]}

    def normalisation(name: str, channels: int) -> None:
        shapes.update({f"{name}.{part}": [channels] for part in ("weight", "bias", "running_mean", "running_var")})

    normalisation("bn1", 64)
    before = 64
    for stage, (blocks, inner) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))[:stages], 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for number, (outputs, inputs, kernel) in enumerate(
                ((inner, before, 1), (inner, inner, 3), (4 * inner, inner, 1)), 1
            ):
                shapes[f"{name}.conv{number}.weight"] = [outputs, inputs, kernel, kernel]
                normalisation(f"{name}.bn{number}", outputs)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = [4 * inner, before, 1, 1]
                normalisation(f"{name}.downsample.1", 4 * inner)
            before = 4 * inner
    return shapes


def resnet50_state() -> dict[str, Tensor]:
    """Random weights, with a classifier."""
    generator = torch.Generator().manual_seed(0)
    shapes = {**resnet50_shapes(), "fc.weight": [1000, 2048], "fc.bias": [1000]}
    return {
        name: 0.5 + torch.rand(shape, generator=generator)
        if name.endswith("running_var")
        else 0.05 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return resnet50_state()


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(state, path)
    return path


def test_the_encoder_has_torchvisions_names_and_shapes() -> None:
    with torch.device("meta"):
        encoder = BigUNet(in_channels=3, out_channels=3).encoder
    found = {name: list(value.shape) for name, value in encoder.state_dict().items()}
    assert {name: shape for name, shape in found.items() if not name.endswith("num_batches_tracked")} == (
        resnet50_shapes(stages=3)
    )


def test_every_tensor_of_the_kept_stages_arrives(weights: Path, state: dict[str, Tensor]) -> None:
    encoder = BigUNet(in_channels=3, out_channels=3, imagenet_weights=weights).encoder
    for name in resnet50_shapes(stages=3):
        assert torch.equal(encoder.state_dict()[name], state[name]), name


def test_features_equal_those_of_torchvision(weights: Path, state: dict[str, Tensor]) -> None:
    models = pytest.importorskip("torchvision.models")
    theirs = models.resnet50(weights=None)
    theirs.load_state_dict(state, strict=False)
    theirs.eval()
    ours = BigUNet(in_channels=3, out_channels=3, imagenet_weights=weights).eval()
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        stem = theirs.relu(theirs.bn1(theirs.conv1(image)))
        first = theirs.layer1(theirs.maxpool(stem))
        second = theirs.layer2(first)
        third = theirs.layer3(second)
        found = ours.encode(image)
        assert torch.equal(ours.encoder["layer3"](found[3]), third)
    for level, expected in zip(found, (image, stem, first, second), strict=False):
        assert torch.equal(level, expected)


def test_a_safetensors_file_gives_the_same(state: dict[str, Tensor], weights: Path, tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(state, tmp_path / "resnet50.safetensors")
    first, second = (
        BigUNet(in_channels=3, out_channels=3, imagenet_weights=path).encoder.state_dict()
        for path in (weights, str(tmp_path / "resnet50.safetensors"))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_trained_network_is_rebuilt_without_the_file(weights: Path, tmp_path: Path) -> None:
    network: Any = build_network({**DEFINITION, "imagenet_weights": str(weights), "freeze_first": True})
    save_network(tmp_path / "model.pt", network, {})
    again = load_network(tmp_path / "model.pt")[0]
    assert network_definition(again) == {**DEFINITION, "freeze_first": True}
    assert torch.equal(again.state_dict()["encoder.conv1.weight"], network.encoder["conv1"].weight)


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


def test_a_file_that_does_not_fill_the_encoder_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"

    def refused(content: Any, problem: str, channels: int = 3) -> None:
        torch.save(content, path)
        with pytest.raises(InputError, match=problem) as caught:
            build_network({**DEFINITION, "in_channels": channels, "imagenet_weights": str(path)})
        assert str(caught.value).startswith(str(path))

    number = len(resnet50_shapes(stages=3))
    name = "layer3.5.conv3.weight"
    refused(without(state, name), rf"only {number - 1} of the encoder's {number} tensors fit \({name}: missing")
    refused({**state, name: torch.zeros(2, 2)}, rf"{name}: \[2, 2\] in the file, \[1024, 256, 1, 1\] in the network")
    refused(state, "give the network images of 3 channels", channels=1)
    refused({**state, name: torch.full_like(state[name], torch.nan)}, f"weight {name} is not finite")
    refused({"state": state}, "conv1.weight: missing")
    refused(Path("x"), "holds more than tensors")
    refused([1, 2], "conv1.weight: missing")
    for broken in ("resnet50.pth", "resnet50.safetensors"):
        (tmp_path / broken).write_bytes(b"not weights")
        with pytest.raises(InputError, match=r"is damaged or not a weights file|holds more than"):
            BigUNet(in_channels=3, out_channels=3, imagenet_weights=tmp_path / broken)
    with pytest.raises(InputError, match="no such file"):
        BigUNet(in_channels=3, out_channels=3, imagenet_weights=tmp_path / "absent.pth")
