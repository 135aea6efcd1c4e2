"""A network that goes on with what pre-training shares."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.networks import build_network, save_encoder, save_shared

SMALL = {"_target_": "mtmed.networks.SmallUNet", "in_channels": 1, "out_channels": 1, "base_channels": 2, "depth": 1}


@pytest.mark.parametrize("save", [save_shared, save_encoder])
def test_the_decoder_arrives_if_the_file_shares_it(
    save: Callable[..., None], run_toy: Callable[..., list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = build_network(SMALL)
    source.final_conv.requires_grad_(False)
    save(tmp_path / "weights.pt", source, {})
    network = run_toy(main={"network_def": {**SMALL, "out_channels": 3}}, pretrained=str(tmp_path / "weights.pt"))[1]
    taken = {name for name, value in network.state_dict().items() if torch.equal(value, source.state_dict()[name])}
    decoder = {name for name, _ in source.named_parameters() if name.startswith("ups.") and name.endswith("weight")}
    assert decoder
    assert not any(name.startswith("final_conv.") for name in taken)
    assert (taken >= decoder) == (save is save_shared)
    assert ("of the decoder" in capsys.readouterr().out) == (save is save_shared)
