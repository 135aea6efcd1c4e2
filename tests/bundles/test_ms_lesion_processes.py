"""Two gloo processes train the MS bundle as one process on the joint batch."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from mtmed.networks.weights import load_checkpoint

TERMS = ("lesion_dice", "lesion_true_positive_rate", "tissue_dice")


@pytest.fixture
def torchrun(ms_config, arguments):
    """Train in two processes, one thread each; returns what they printed."""

    def start(given, *overlays):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        files = [*ms_config("train", "multi_gpu"), *overlays]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
        command += ["-m", "monai.bundle", "run", "--config_file", str(files), *arguments(given)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return start


def table(folder):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "losses.csv").open(newline=""))]


def test_two_processes_train_as_one_on_the_joint_batch(torchrun, ms_options, train_ms, tmp_path):
    overlay = tmp_path / "sgd.json"
    # Adam would blow up rounding where a gradient is all but zero
    sgd = {
        "_target_": "torch.optim.SGD",
        "params": "$[p for p in @train#model.parameters() if p.requires_grad]",
        "lr": "@learning_rate",
    }
    overlay.write_text(json.dumps({"train#optimizer": sgd}))
    same = {"tissue": "files", "merged_lesions": "none", "epochs": 1, "iterations_per_epoch": 3}
    together = tmp_path / "two"
    output = torchrun(ms_options("multi_output", output_dir=str(together), batch_size=1, **same), str(overlay))
    alone = train_ms("multi_output", str(overlay), batch_size=2, **same)
    assert output.count("epoch 1/1") == 1
    for ours, theirs in zip(table(together), table(alone), strict=True):
        for name in ("loss", *TERMS):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    checkpoints = [load_checkpoint(folder / "checkpoint.pt") for folder in (together, alone)]
    assert checkpoints[0]["circumstances"]["world_size"] == 2
    assert checkpoints[0]["best_metric"] == pytest.approx(checkpoints[1]["best_metric"], abs=2e-3)
    for name, value in checkpoints[0]["model"].items():
        torch.testing.assert_close(value, checkpoints[1]["model"][name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_rough_networks_are_trained_once_by_one_process(torchrun, ms_options, tmp_path):
    folders = {"rough_dir": str(tmp_path / "rough"), "output_dir": str(tmp_path / "run")}
    given = ms_options("multi_input", merged_lesions="in_sample", epochs=1, **folders)
    output = torchrun(given)
    assert output.count("Rough lesion network 1 of 1 on all training cases") == 1
    assert len(list((tmp_path / "rough").iterdir())) == 1
    (rough,) = (tmp_path / "rough").iterdir()
    assert load_checkpoint(rough / "checkpoint.pt")["circumstances"]["world_size"] == 1
    assert len(table(rough)) == len(table(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "rough.pt").read_bytes() == (rough / "last.pt").read_bytes()
