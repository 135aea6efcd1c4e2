"""Killed at any moment and started again with the same command, a run ends as if nothing had happened."""

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

from mtmed.networks.weights import load_checkpoint, load_weights

# imports once and forks a process for each start, which saves seconds a time
LAUNCHER = """
import io, json, os, signal, sys, fire, torch, torch._inductor, monai.bundle
import mtmed.bundle, mtmed.data.demo, mtmed.engines, mtmed.handlers, mtmed.inferers
from monai.bundle.__main__ import *

def die_with_half_a_checkpoint(number):
    whole, done = torch.save, 0

    def half(content, file):
        nonlocal done
        done += "iteration" in content
        buffer = io.BytesIO()
        whole(content, buffer)
        if done < number:
            return file.write(buffer.getvalue())
        file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half

print("ready", flush=True)
while line := sys.stdin.readline():
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(order["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        if order["half"]:
            die_with_half_a_checkpoint(order["half"])
        fire.Fire(command=order["words"])
        sys.exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Runs:
    """Starts one command again and again, each time in a new process."""

    def __init__(self, words, folder):
        self.words, self.folder, self.log = words, folder, folder.with_suffix(".out")
        self.launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "ready"

    def answer(self):
        return self.launcher.stdout.readline().strip()

    def start(self, half=0):
        self.log.touch()
        self.lines = self.text().count("\nepoch ")
        order = {"words": self.words, "log": str(self.log), "half": half}
        self.launcher.stdin.write(json.dumps(order) + "\n")
        self.launcher.stdin.flush()
        self.process = int(self.answer())
        return self

    def text(self):
        return self.log.read_text()

    def kill_after(self, delay, lines=0):
        """Kill some time after a number of epoch lines; returns whether there was something to kill."""
        patience = time.monotonic() + 60
        while self.text().count("\nepoch ") < self.lines + lines and time.monotonic() < patience:
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(self.process, signal.SIGKILL)
        return self.end() == -signal.SIGKILL

    def end(self):
        return int(self.answer())

    def close(self):
        self.launcher.stdin.close()
        self.launcher.wait(60)
        self.launcher.stdout.close()


def facts(folder):
    """Everything in which two runs must agree."""
    checkpoint = load_checkpoint(folder / "checkpoint.pt")

    def digest(tensors):
        sha = hashlib.sha256()
        for name in sorted(tensors):
            sha.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
        return sha.hexdigest()

    moments = {f"{k}/{n}": v for k, state in checkpoint["optimizer"]["state"].items() for n, v in state.items()}
    return {
        "losses": (folder / "losses.csv").read_bytes(),
        "weights": digest(checkpoint["model"]),
        "optimiser": digest(moments),
        "scheduler": checkpoint["lr_scheduler"],
        "best": (checkpoint["best_metric"], checkpoint["best_metric_epoch"]),
        "model.pt": digest(load_weights(folder / "model.pt")["model"]),
        "iteration": checkpoint["iteration"],
    }


@pytest.fixture
def words(config, options, arguments, pretrained, tmp_path):
    """The command that fine-tunes into a folder."""

    def make(name, **more):
        given = options(
            "finetune",
            output_dir=str(tmp_path / name),
            pretrained=str(pretrained / "encoder.pt"),
            iterations_per_epoch=3,
            val_interval=2,
            **more,
        )
        return ["run", "--config_file", str(config("finetune")), *arguments(given)]

    return make


@pytest.fixture
def whole(words, tmp_path):
    """Starts the uninterrupted run, by the command that a user types."""

    def start(**more):
        command = [sys.executable, "-m", "monai.bundle", *words("whole", **more)]
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)

    return start


@pytest.fixture
def runs(words, tmp_path):
    started = []

    def make(**more):
        started.append(Runs(words("killed", **more), tmp_path / "killed"))
        return started[0]

    yield make
    for one in started:
        one.close()


# in CI runs are killed at random moments instead: tests/reliability/test_random_kills.py
@pytest.mark.slow
def test_killed_run_ends_bit_identical(whole, runs, tmp_path):
    uninterrupted, killed = whole(epochs=6), runs(epochs=6)
    assert killed.start(half=2).end() == -signal.SIGKILL
    assert list(killed.folder.glob(".checkpoint.pt.*"))
    assert load_checkpoint(killed.folder / "checkpoint.pt")["epoch"] == 1
    delays = random.Random(0)
    for _ in range(2):
        assert killed.start().kill_after(delays.uniform(0, 0.15), lines=1)
    assert killed.start().end() == 0, killed.text()
    assert uninterrupted.wait(120) == 0
    assert facts(killed.folder) == facts(tmp_path / "whole")
    assert [path.name for path in killed.folder.glob(".*")] == [".run.lock"]
    rows = list(csv.DictReader((killed.folder / "losses.csv").open(newline="")))
    assert [int(row["iteration"]) for row in rows] == list(range(1, 19))
    text = killed.text()
    assert text.count("Continuing at epoch") == 3
    assert "Not bit-identical" not in text
    assert "Traceback" not in text
    assert killed.start().end() == 0
    assert killed.text().count("This run is finished") == 1


@pytest.mark.slow
def test_run_killed_twenty_times_ends_bit_identical(whole, runs, tmp_path):
    uninterrupted, killed = whole(epochs=60), runs(epochs=60)
    delays, kills = random.Random(1), 0
    for number in range(20):
        # every other kill comes while the run starts up
        kills += killed.start().kill_after(delays.uniform(0, 2 if number % 2 else 0.5), lines=1 - number % 2)
    assert kills >= 15
    assert killed.start().end() == 0, killed.text()
    assert uninterrupted.wait(300) == 0
    assert facts(killed.folder) == facts(tmp_path / "whole")
