"""A weights file cannot ask for more memory or time than its tensors need."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import build_network, load_network, outline, save_network
from mtmed.networks.outline import outlined_shapes

SMALL = {"_target_": "mtmed.networks.SmallUNet", "in_channels": 1, "out_channels": 2, "base_channels": 2, "depth": 1}


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    def write(definition: Mapping[str, Any]) -> Path:
        save_network(tmp_path / "plain.pt", build_network(SMALL), {})
        content = torch.load(tmp_path / "plain.pt", weights_only=True)
        torch.save({**content, "network_def": dict(definition)}, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return write


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"base_channels": 60_000}, r"only \d+ of the \d+ tensors", id="hundreds of gigabytes"),
        pytest.param({"depth": 10**6}, "has a number beyond 65536", id="a million layers"),
        pytest.param({"in_channels": 10**400}, "has a number beyond 65536", id="a number of 400 digits"),
        pytest.param({"film": {"features": [10**9]}}, "has a number beyond 65536", id="a large number inside"),
        pytest.param({"depth": 60_000, "maximum_channels": 2}, "makes over 1410 layers for 46 tensors", id="layers"),
        pytest.param({"depth": 10_000}, "is not accepted by its class", id="channels beyond all numbers"),
    ],
)
def test_what_a_file_has_no_tensors_for_is_not_built(
    change: Mapping[str, Any], problem: str, weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights({**SMALL, **change})
    real = torch.nn.Conv2d.reset_parameters

    def only_without_memory(self: torch.nn.Conv2d) -> None:
        assert self.weight.is_meta
        real(self)

    monkeypatch.setattr(torch.nn.Conv2d, "reset_parameters", only_without_memory)
    with pytest.raises(InputError, match=problem) as caught:
        load_network(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_the_outline_has_the_shapes_of_the_network() -> None:
    expected = {name: value.shape for name, value in build_network(SMALL).state_dict().items()}
    assert outlined_shapes(SMALL, len(expected), source="a") == expected
    assert build_network(SMALL).state_dict()["final_conv.weight"].device.type == "cpu"


def test_a_class_that_computes_while_it_is_built_is_read_all_the_same(tmp_path: Path) -> None:
    definition = {"_target_": "monai.networks.nets.SwinUNETR", "in_channels": 1, "out_channels": 2, "feature_size": 12}
    network = build_network({**definition, "depths": [1, 1, 1, 1]})
    assert outlined_shapes(network.definition, len(network.state_dict()), source="a") is None
    save_network(tmp_path / "model.pt", network, {})
    again, _ = load_network(tmp_path / "model.pt")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_the_count_of_layers_ends_with_the_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "_LAYERS_PER_TENSOR", 0)
    with pytest.raises(InputError, match="makes over 0 layers"):
        outlined_shapes(SMALL, 20, source="a")
    build_network(SMALL)
