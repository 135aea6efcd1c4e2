"""Two gloo processes train the GI tract bundle as one process on the joint batch, but for batch statistics."""

import csv
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gi_tract_runs import VARIANTS

from mtmed.networks.weights import load_checkpoint

# Adam would blow up rounding where a gradient is all but zero
SGD = {
    "_target_": "torch.optim.SGD",
    "params": "$[p for p in @train#model.parameters() if p.requires_grad]",
    "lr": "@learning_rate",
}
# without batch statistics, which each process has of its own
UNET = {
    "_target_": "mtmed.networks.UNet",
    "in_channels": 1,
    "out_channels": 3,
    "features": [4, 4, 4, 4, 8, 4],
    "norm": ["group", {"num_groups": 2}],
    "spatial_dims": 2,
}
HERE = Path(__file__).parent
RECORD = {"_target_": "rank_record.RankRecord", "folder": "@output_dir"}


@pytest.fixture
def overlay(tmp_path: Path) -> Callable[..., str]:
    """Path of an overlay that records what each process does."""

    def make(name: str, **more: Any) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"+train#handlers": [RECORD], **more}))
        return str(path)

    return make


@pytest.fixture
def torchrun(gi_tract_config: Any, gi_tract_options: Any, arguments: Any, tmp_path: Path) -> Callable[..., Any]:
    """Train in two processes, one thread each; returns the folder and what they printed."""

    def start(*overlays: str, **more: Any) -> tuple[Path, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = tmp_path / "two"
        given = gi_tract_options("train", output_dir=str(folder), **more)
        files = [*gi_tract_config("train", "multi_gpu"), *overlays]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
        command += ["-m", "monai.bundle", "run", "--config_file", str(files), *arguments(given)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(HERE)}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return folder, result.stdout

    return start


def table(folder: Path) -> list[dict[str, float]]:
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "losses.csv").open(newline=""))]


def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


def assert_same_batches(together: Path, alone: Path, group_size: int) -> None:
    """The processes share the batch of one process, in order, and no group is torn."""
    first, second = ranks(together)
    (one,) = ranks(alone)
    assert len(first["batches"]) == len(second["batches"]) == len(one["batches"]) > 1
    for left, right, joint in zip(first["batches"], second["batches"], one["batches"], strict=True):
        for name in ("volume", "slice", "group", "image"):
            assert torch.equal(torch.cat([left[name], right[name]]), joint[name]), name
        assert torch.equal(joint["group"], torch.arange(len(joint["group"])) // group_size)
        if group_size > 1:
            assert not set(left["group"].tolist()) & set(right["group"].tolist())


def assert_both_have_one_network(folder: Path) -> None:
    first, second = ranks(folder)
    # running statistics of batch normalisation are each process's own; those of the first one are kept
    own = ("running_mean", "running_var")
    differing = [name for name, value in first["weights"].items() if not torch.equal(value, second["weights"][name])]
    assert all(name.endswith(own) for name in differing)
    kept = load_checkpoint(folder / "checkpoint.pt")["model"]
    assert all(torch.equal(value, kept[name]) for name, value in first["weights"].items())


@pytest.mark.parametrize("variant", ["contrast", pytest.param("momentum_contrast", marks=pytest.mark.slow)])
def test_two_processes_train_as_one_on_the_joint_batch(
    variant: str, torchrun: Any, train_gi_tract: Any, overlay: Any
) -> None:
    path = overlay("sgd", **{"train#optimizer": SGD, "network_def": UNET})
    same = {**VARIANTS[variant], "image_size": [32, 32], "learning_rate": 0.1, "pairs": 2, "iterations_per_epoch": 3}
    together, output = torchrun(path, batch_size=4, **same)
    alone = train_gi_tract(path, batch_size=8, **same)
    assert output.count("epoch 2/2") == 1
    assert_same_batches(together, alone, group_size=4)
    assert_both_have_one_network(together)
    for ours, theirs in zip(table(together), table(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert table(alone)[-1]["loss"] != table(alone)[0]["loss"]
    checkpoints = [load_checkpoint(folder / "checkpoint.pt") for folder in (together, alone)]
    assert checkpoints[0]["circumstances"]["world_size"] == 2
    assert checkpoints[0]["best_metric"] == pytest.approx(checkpoints[1]["best_metric"], abs=2e-3)
    for name, value in checkpoints[0]["model"].items():
        torch.testing.assert_close(value, checkpoints[1]["model"][name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_two_processes_with_batch_statistics_of_their_own_keep_one_network(
    torchrun: Any, train_gi_tract: Any, overlay: Any
) -> None:
    path = overlay("record")
    same = {**VARIANTS["position"], "film": True, "film_features": ["day_number"], "weighting": "gradient_similarity"}
    together, output = torchrun(path, batch_size=4, **same)
    alone = train_gi_tract(path, batch_size=8, **same)
    assert output.count("epoch 2/2") == 1
    assert_same_batches(together, alone, group_size=1)
    assert_both_have_one_network(together)
    for row in table(together):
        assert all(math.isfinite(value) for value in row.values())
    assert list(table(together)[0]) == list(table(alone)[0])
