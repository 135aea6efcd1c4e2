"""Two gloo processes train the kidney bundle as one process on the joint batch."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from mtmed.networks.weights import load_checkpoint, load_weights

# Adam would blow up rounding where a gradient is all but zero
SGD = {
    "_target_": "torch.optim.SGD",
    "params": "$[p for p in @train#model.parameters() if p.requires_grad]",
    "lr": "@learning_rate",
}


@pytest.fixture
def overlay(tmp_path):
    """Plain gradient descent in place of Adam."""
    path = tmp_path / "sgd.json"
    path.write_text(json.dumps({"train#optimizer": SGD}))
    return str(path)


@pytest.fixture
def torchrun(siamese_config, siamese_options, arguments, tmp_path):
    """Run a stage in two processes, one thread each; returns its folder and what they printed."""

    def start(stage, *overlays, **more):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = tmp_path / "two"
        given = siamese_options(stage, output_dir=str(folder), batch_size=1, **more)
        files = [*siamese_config(stage, "multi_gpu"), *overlays]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
        command += ["-m", "monai.bundle", "run", "--config_file", str(files), *arguments(given)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return folder, result.stdout

    return start


def table(folder):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "losses.csv").open(newline=""))]


def assert_same(together, alone, file):
    """Losses, weights and what was handed on agree."""
    for ours, theirs in zip(table(together), table(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    checkpoints = [load_checkpoint(folder / "checkpoint.pt") for folder in (together, alone)]
    assert checkpoints[0]["circumstances"]["world_size"] == 2
    assert checkpoints[0]["best_metric"] == pytest.approx(checkpoints[1]["best_metric"], abs=2e-3)
    handed_on = [load_weights(folder / file) for folder in (together, alone)]
    assert handed_on[0]["settings"] == handed_on[1]["settings"]
    for ours, theirs in (
        (checkpoints[0]["model"], checkpoints[1]["model"]),
        (handed_on[0]["model"], handed_on[1]["model"]),
    ):
        assert set(ours) == set(theirs)
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_pretrain_as_one_on_the_joint_batch(torchrun, pretrain_siamese, overlay):
    same = {"iterations_per_epoch": 3, "learning_rate": 0.1, "margin": 1.4}
    together, output = torchrun("pretrain", overlay, **same)
    alone = pretrain_siamese(overlay, batch_size=2, **same)
    assert output.count("epoch 2/2") == 1
    assert output.count("The left kidney is missing") == 1
    assert_same(together, alone, "encoder.pt")
    for file in ("sides.csv", "regions.png"):
        assert (together / file).read_bytes() == (alone / file).read_bytes()
    assert len(table(alone)) == 6
    assert table(alone)[-1]["loss"] != table(alone)[0]["loss"]


@pytest.mark.slow
def test_two_processes_segment_as_one_on_the_joint_batch(torchrun, train_siamese, overlay):
    # all volumes of the tiny cohort have one size, so that two of them make a batch
    same = {"iterations_per_epoch": 3, "learning_rate": 0.05}
    together, output = torchrun("train", overlay, **same)
    alone = train_siamese(overlay, batch_size=2, **same)
    assert output.count("epoch 2/2") == 1
    assert_same(together, alone, "last.pt")
