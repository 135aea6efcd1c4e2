"""What a new network starts from is said beside its definition."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.bundle.messages import mendable

SMALL = {"_target_": "mtmed.networks.SmallUNet", "in_channels": 1, "out_channels": 1, "base_channels": 2, "depth": 1}
RUN = "$@sink.append(mtmed.bundle.network('network_def', start={'film': @film, 'dropout': @dropout}))"


def test_arguments_beside_the_definition_reach_the_network_unless_they_are_none(
    run_toy: Callable[..., list[Any]],
) -> None:
    (network,) = run_toy(main={"network_def": SMALL, "film": None, "dropout": 0.25, "run": [RUN]})
    assert network.definition == {**SMALL, "dropout": 0.25}


def test_a_pre_trained_file_may_not_name_them(run_toy: Callable[..., list[Any]], tmp_path: Path) -> None:
    carried = {"_target_": "mtmed.networks.BigUNet", "in_channels": 1, "imagenet_weights": "other.pth"}
    torch.save({"model": {}, "network_def": carried, "settings": {}}, tmp_path / "encoder.pt")
    with pytest.raises(RuntimeError) as caught:
        run_toy(main={"network_def": SMALL}, pretrained=str(tmp_path / "encoder.pt"))
    assert "encoder.pt: its network_def names imagenet_weights" in str(mendable(caught.value))
