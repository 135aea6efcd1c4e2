"""Two gloo processes train both stages of the two-stage bundle as one process on the joint batch."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from two_stage_runs import losses_of

from mtmed.networks.weights import load_checkpoint

HERE = Path(__file__).parent
# Adam would blow up rounding where a gradient is all but zero; Dice over a batch is over each process's own
OVERLAY = {
    "+train#handlers": [{"_target_": "rank_record.RankRecord", "folder": "@output_dir"}],
    "train#optimizer": {
        "_target_": "torch.optim.SGD",
        "params": "$[p for p in @train#model.parameters() if p.requires_grad]",
        "lr": "@learning_rate",
    },
    "train#tasks#segmentation#loss#dice#batch": False,
    # without batch statistics, which each process has of its own
    "network_def": {
        "_target_": "mtmed.networks.UNet",
        "in_channels": 1,
        "out_channels": 1,
        "features": [4, 4, 4, 4, 8, 4],
        "norm": ["group", {"num_groups": 2}],
        "spatial_dims": 2,
    },
}
SAME = {"image_size": [32, 32], "learning_rate": 0.1, "iterations_per_epoch": 3}


@pytest.fixture
def overlay(tmp_path: Path) -> str:
    """Path of an overlay that records what each process does."""
    (tmp_path / "overlay.json").write_text(json.dumps(OVERLAY))
    return str(tmp_path / "overlay.json")


@pytest.fixture
def torchrun(two_stage_config: Any, two_stage_options: Any, arguments: Any, tmp_path: Path) -> Callable[..., Any]:
    """Run a stage in two processes, one thread each; returns the folder and what they printed."""

    def start(stage: str, *overlays: str, **more: Any) -> tuple[Path, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = two_stage_options(stage, output_dir=str(tmp_path / "two"), **more)
        files = [*two_stage_config(stage, "multi_gpu"), *overlays]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
        command += ["-m", "monai.bundle", "run", "--config_file", str(files), *arguments(given)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(HERE)}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=480, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return tmp_path / "two", result.stdout

    return start


def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


def assert_same_batches(together: Path, alone: Path) -> None:
    """The processes share each batch of one process, in order."""
    first, second = ranks(together)
    (one,) = ranks(alone)
    assert len(first["batches"]) == len(second["batches"]) == len(one["batches"]) > 1
    for left, right, joint in zip(first["batches"], second["batches"], one["batches"], strict=True):
        for name in set(joint) - {"losses"}:
            assert torch.equal(torch.cat([left[name], right[name]]), joint[name]), name


def assert_trained_alike(together: Path, alone: Path) -> None:
    first, second = (one["weights"] for one in ranks(together))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for ours, theirs in zip(losses_of(together), losses_of(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    rows = losses_of(alone)
    assert rows[-1]["loss"] != rows[0]["loss"]
    two, one = (load_checkpoint(folder / "checkpoint.pt") for folder in (together, alone))
    assert two["circumstances"]["world_size"] == 2
    assert two["best_metric"] == pytest.approx(one["best_metric"], abs=2e-3)
    for name, value in two["model"].items():
        torch.testing.assert_close(value, one["model"][name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("task", ["momentum_contrast", pytest.param("all", marks=pytest.mark.slow)])
def test_two_processes_train_a_task_as_one_on_the_joint_batch(
    task: str, torchrun: Any, train_two_stage: Any, overlay: str
) -> None:
    given = {**SAME, "task": task, "queue_size": 16}
    together, output = torchrun("stage1", overlay, batch_size=2, **given)
    alone = train_two_stage("stage1", overlay, batch_size=4, **given)
    assert output.count("epoch 2/2") == 1
    assert {"auxiliary/image", "partner/image", "image"} <= set(ranks(alone)[0]["batches"][0])
    assert_same_batches(together, alone)
    assert_trained_alike(together, alone)


@pytest.mark.slow
def test_two_processes_wait_for_one_pre_training(torchrun: Any, overlay: str) -> None:
    folder, output = torchrun("stage1", overlay, batch_size=2, **SAME, task="jigsaw", mode="pretrained")
    assert output.count("epoch 2/2") == 2
    assert len(losses_of(folder / "pretraining")) == 6
    assert load_checkpoint(folder / "pretraining" / "checkpoint.pt")["circumstances"]["world_size"] == 1
    assert load_checkpoint(folder / "checkpoint.pt")["circumstances"]["world_size"] == 2
    first, second = (one["weights"] for one in ranks(folder))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
def test_two_processes_distil_as_one_on_the_joint_batch(
    torchrun: Any, train_two_stage: Any, overlay: str, tmp_path: Path
) -> None:
    paths = []
    for task in ("none", "inner_distance"):
        given = {**SAME, "task": task, "output_dir": str(tmp_path / task)}
        paths.append(str(train_two_stage("stage1", overlay, **given) / "model.pt"))
    same = {**SAME, "teachers": paths, "temperature": 2.0, "unlabelled": True}
    together, output = torchrun("distill", overlay, batch_size=2, **same)
    alone = train_two_stage("distill", overlay, batch_size=4, **same)
    assert output.count("epoch 2/2") == 1
    assert_same_batches(together, alone)
    assert_trained_alike(together, alone)
