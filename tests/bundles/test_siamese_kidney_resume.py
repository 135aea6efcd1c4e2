"""Killed in either training of the kidney bundle and started again, a run ends as if nothing had happened."""

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.networks.weights import load_checkpoint, load_weights

# imports once and forks a process for each start, which saves seconds a time
LAUNCHER = """
import json, os, sys, fire, torch, torch._inductor, monai.bundle
import mtmed.bundle, mtmed.data.demo, mtmed.engines, mtmed.handlers, mtmed.inferers
from monai.bundle.__main__ import *

print("ready", flush=True)
while line := sys.stdin.readline():
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(order["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        fire.Fire(command=order["words"])
        sys.exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
PATIENCE = 60  # seconds
# enough to be killed twice; an epoch of three steps is shorter in pre-training
STEPS = {"pretrain": 24, "train": 12}


class Launcher:
    """Runs one command after the other, each in a new process."""

    def __init__(self):
        self.parent = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "ready"

    def answer(self):
        return self.parent.stdout.readline().strip()

    def run(self, words, log, *, kill_after=None, delay=0.0):
        """Exit status of a command; killed some time after that many further epoch lines."""
        log.touch()
        lines = log.read_text().count("\nepoch ")
        self.parent.stdin.write(json.dumps({"words": words, "log": str(log)}) + "\n")
        self.parent.stdin.flush()
        process = int(self.answer())
        if kill_after is not None:
            end = time.monotonic() + PATIENCE
            while log.read_text().count("\nepoch ") < lines + kill_after and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(delay)
            os.kill(process, signal.SIGKILL)
        return int(self.answer())

    def close(self):
        self.parent.stdin.close()
        self.parent.wait(PATIENCE)
        self.parent.stdout.close()


@pytest.fixture(scope="module")
def launcher():
    started = Launcher()
    yield started
    started.close()


@pytest.fixture
def words(siamese_config, siamese_options, arguments, pretrained_siamese, tmp_path):
    """The command of a stage into a folder."""

    def make(stage, name):
        more = {"pretrained": str(pretrained_siamese / "encoder.pt")} if stage == "train" else {}
        length = {"epochs": STEPS[stage] // 3, "iterations_per_epoch": 3, "val_interval": 2}
        given = siamese_options(stage, output_dir=str(tmp_path / name), **length, **more)
        return ["run", "--config_file", str(siamese_config(stage)), *arguments(given)]

    return make


def digest(tensors):
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return sha.hexdigest()


def facts(folder):
    """Everything in which two runs must agree."""
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    moments = {f"{k}/{n}": v for k, state in checkpoint["optimizer"]["state"].items() for n, v in state.items()}
    files = [name for name in ("encoder.pt", "model.pt", "last.pt") if (folder / name).exists()]
    tables = [name for name in ("losses.csv", "scores.csv", "summary.json", "sides.csv") if (folder / name).exists()]
    return {
        "weights": digest(checkpoint["model"]),
        "optimiser": digest(moments),
        "best": (checkpoint["best_metric"], checkpoint["best_metric_epoch"]),
        "iteration": checkpoint["iteration"],
        **{name: (digest(load_weights(folder / name)["model"])) for name in files},
        **{name: (folder / name).read_bytes() for name in tables},
    }


@pytest.mark.parametrize("stage", ["pretrain", "train"])
def test_killed_run_ends_bit_identical(stage, launcher, words, tmp_path):
    assert launcher.run(words(stage, "whole"), tmp_path / "whole.txt") == 0, (tmp_path / "whole.txt").read_text()
    log, delays = tmp_path / "killed.txt", random.Random(stage)
    for lines in (2, 1):
        status = launcher.run(words(stage, "killed"), log, kill_after=lines, delay=delays.uniform(0, 0.05))
        assert status == -signal.SIGKILL, log.read_text()
    assert launcher.run(words(stage, "killed"), log) == 0, log.read_text()
    text = log.read_text()
    assert text.count("Continuing at epoch") == 2
    assert "Not bit-identical" not in text
    assert "Traceback" not in text
    assert facts(tmp_path / "killed") == facts(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".*"))
    rows = list(csv.DictReader((tmp_path / "killed" / "losses.csv").open(newline="")))
    assert [int(row["iteration"]) for row in rows] == list(range(1, STEPS[stage] + 1))
    if stage == "train":
        assert_weights_move_linearly(tmp_path / "killed", rows)


def assert_weights_move_linearly(folder, rows):
    """A resumed run goes on with the weights of its step, in the loss and in what TensorBoard shows."""
    ends = {"cross_entropy": (0.6, 0.2), "dice": (0.4, 0.8), "reconstruction": (0.1, 0.1)}

    def weight(name, step):
        start, end = ends[name]
        return start + (end - start) * step / (STEPS["train"] - 1)

    for row in rows:
        step = int(row["iteration"]) - 1
        total = sum(weight(name, step) * float(row[name]) for name in ends)
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    events = EventAccumulator(str(folder)).Reload()
    for name in ends:
        shown = {event.step: event.value for event in events.Scalars(f"weight/{name}")}
        assert shown == pytest.approx({step: weight(name, step - 1) for step in range(1, STEPS["train"] + 1)}, rel=1e-5)


def test_finished_run_says_so(pretrained_siamese, pretrain_siamese, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in pretrained_siamese.iterdir()}
    with pytest.raises(SystemExit) as ended:
        pretrain_siamese(output_dir=str(pretrained_siamese))
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "This run is finished" in said
    assert f"--pretrained {pretrained_siamese}/encoder.pt" in said
    assert {path.name: path.stat().st_mtime_ns for path in pretrained_siamese.iterdir()} == before
