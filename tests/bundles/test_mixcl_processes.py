"""Two gloo processes train as one process on the joint batch."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from mtmed.networks.weights import load_checkpoint

LOSSES = ("identity", "label", "reconstruction")


def torchrun(config, arguments, given, *overlays, check=True):
    """Run a stage in two processes, one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stage, *more = overlays
    files = [*config(stage, "multi_gpu"), *more]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    command += ["-m", "monai.bundle", "run", "--config_file", str(files), *arguments(given)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


def table(folder):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "losses.csv").open(newline=""))]


@pytest.fixture(scope="module")
def plain_steps(tmp_path_factory):
    """Steps along the gradient as it is; AdamW would blow up rounding where a gradient is all but zero."""
    path = tmp_path_factory.mktemp("overlay") / "sgd.json"
    sgd = {
        "_target_": "torch.optim.SGD",
        "params": "$[p for p in @train#model.parameters() if p.requires_grad]",
        "lr": "@learning_rate",
    }
    path.write_text(json.dumps({"train#optimizer": sgd}))
    return str(path)


@pytest.mark.slow
def test_two_processes_pre_train_as_one_on_the_joint_batch(
    config, options, arguments, run_bundle, plain_steps, tmp_path
):
    same = {"epochs": 1, "iterations_per_epoch": 2, "learning_rate": 0.0003, "precision": "float32"}
    together = tmp_path / "two"
    given = options("pretrain", output_dir=str(together), batch_size=1, **same)
    result = torchrun(config, arguments, given, "pretrain", plain_steps)
    alone = run_bundle("pretrain", plain_steps, batch_size=2, **same)
    two, one = table(together), table(alone)
    for step in range(2):
        for name in ("loss", *LOSSES):
            assert two[step][name] == pytest.approx(one[step][name], rel=1e-4), (step, name)
    models = [load_checkpoint(folder / "checkpoint.pt")["model"] for folder in (together, alone)]
    assert models[0].keys() == models[1].keys()
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=1e-4, atol=1e-5, msg=name)
    # one process speaks
    assert result.stdout.count("epoch 1/1") == 1
    assert load_checkpoint(together / "checkpoint.pt")["circumstances"]["world_size"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("losses", [["label"], ["identity"]])
def test_ablations_leave_no_parameter_waiting_for_a_gradient(losses, config, options, arguments, tmp_path):
    """A parameter without a gradient stops distributed training at its second step."""
    given = options("pretrain", output_dir=str(tmp_path / "run"), losses=losses, epochs=1, iterations_per_epoch=2)
    torchrun(config, arguments, given, "pretrain")
    assert len(table(tmp_path / "run")) == 2


def test_two_processes_fine_tune_validate_and_resume(config, options, arguments, run_bundle, plain_steps, tmp_path):
    same = {"iterations_per_epoch": 2, "val_interval": 1, "learning_rate": 0.01, "precision": "float32"}
    together, alone = tmp_path / "two", tmp_path / "one"
    schedule = {"train#lr_scheduler#T_max": 4}
    for epochs in (1, 2):
        given = options("finetune", output_dir=str(together), batch_size=1, epochs=epochs, **same, **schedule)
        result = torchrun(config, arguments, given, "finetune", plain_steps)
    assert "Continuing at epoch 2" in result.stdout
    run_bundle("finetune", plain_steps, output_dir=str(alone), batch_size=2, epochs=2, **same, **schedule)
    for ours, theirs in zip(table(together), table(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    best = [load_checkpoint(folder / "checkpoint.pt")["best_metric"] for folder in (together, alone)]
    assert best[0] == pytest.approx(best[1], abs=2e-3)
