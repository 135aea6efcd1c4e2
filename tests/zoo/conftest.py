"""A small bundle in the flat layout, and a checkpoint to export it with."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.networks import build_network, save_network
from mtmed.zoo import export_bundle

REPOSITORY = Path(__file__).parents[2]
DEFINITION = {
    "_target_": "mtmed.networks.UNETR",
    "in_channels": 1,
    "out_channels": 3,
    "img_size": [16, 16, 32],
    "feature_size": 4,
    "hidden_size": 24,
    "mlp_dim": 32,
    "num_heads": 2,
}
SETTINGS = {
    "label_names": {"0": "background", "1": "liver", "2": "spleen"},
    "modalities": ["CT"],
    "spacing": [6.0, 6.0, 8.0],
    "window": [-150.0, 250.0],
    "patch_size": [16, 16, 32],
}
FINETUNE = {
    "imports": ["$import mtmed.networks"],
    "bundle_root": "bundles/small",
    "device": "$torch.device('cpu')",
    "dataset_dir": "$'somewhere'",
    "spacing": "$[1.0, 1.0, 1.0]",
    "patch_size": [96, 96, 96],
    "network_def": {"_target_": "mtmed.networks.UNETR", "in_channels": "$1 + 0"},
    "train": {
        "dataset": {"_target_": "Dataset", "data": []},
        "inferer": {"_target_": "SimpleInferer"},
        "handlers": [],
        "trainer": {"max_epochs": 1},
    },
    "next_step": "$f'Next: python -m monai.bundle run --config_file {@bundle_root}/inference.json'",
    "run": ["$@train#trainer.run()"],
}
INFERENCE = {
    "bundle_root": "bundles/small",
    "device": "$torch.device('cpu')",
    "dataset_dir": "scans",
    "checkpoint": None,
    "window": [-1.0, 1.0],
    "weights": "@checkpoint",
    "loaded": "$mtmed.networks.load_network(@weights)",
    "settings": "$@loaded[1]",
    "label_names": "$@settings['label_names']",
    "network_def": "$@loaded[0]",
    "network": "$@network_def.to(@device)",
    "record": "$mtmed.networks.network_definition(@network_def)",
    "handlers": [{"last_line": "$f'Next: {@bundle_root}/evaluate.json'"}],
    "inferer": {"_target_": "SimpleInferer"},
    "dataset": {"_target_": "Dataset", "data": []},
    "evaluator": {"_target_": "SupervisedEvaluator"},
    "run": ["$@evaluator.run()"],
}


@pytest.fixture
def definition() -> dict[str, Any]:
    return copy.deepcopy(DEFINITION)


@pytest.fixture
def settings() -> dict[str, Any]:
    return copy.deepcopy(SETTINGS)


@pytest.fixture(params=["mixcl", "ms_lesion", "siamese_kidney", "gi_tract", "two_stage"])
def source_bundle(request: pytest.FixtureRequest) -> Path:
    return REPOSITORY / "bundles" / request.param


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model.pt"
    save_network(path, build_network(DEFINITION), SETTINGS)
    return path


@pytest.fixture
def small_bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles" / "small"
    shutil.copytree(REPOSITORY / "bundles" / "mixcl" / "docs", folder / "docs")
    for name in ("LICENSE", "metadata.json", "logging.conf"):
        shutil.copy(REPOSITORY / "bundles" / "mixcl" / name, folder / name)
    (folder / "finetune.json").write_text(json.dumps(FINETUNE))
    (folder / "inference.json").write_text(json.dumps(INFERENCE))
    (folder / "multi_gpu.json").write_text(json.dumps({"device": "$torch.device('cuda')"}))
    return folder


@pytest.fixture
def exported(small_bundle: Path, small_checkpoint: Path, tmp_path: Path) -> Path:
    return export_bundle(
        small_bundle, checkpoint=small_checkpoint, output=tmp_path / "dist", name="abdomen_ct_segmentation"
    )
