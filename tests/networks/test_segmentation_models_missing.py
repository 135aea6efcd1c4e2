"""Without the extra, what is missing is named."""

import sys
from pathlib import Path

import pytest

from mtmed.errors import InputError
from mtmed.networks import build_network

DEFINITION = {"_target_": "mtmed.networks.SegmentationModel", "in_channels": 3, "out_channels": 2}


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(InputError, match=r"segmentation-models-pytorch: is not installed; .*mtmed\[architectures\]"):
        build_network(DEFINITION)


def test_a_torchvision_of_another_torch_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "segmentation_models_pytorch.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")'
    )
    monkeypatch.delitem(sys.modules, "segmentation_models_pytorch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="torchvision::nms does not exist; install the torchvision"):
        build_network(DEFINITION)
    sys.modules.pop("segmentation_models_pytorch", None)
