"""Killed while a rough network or the main one trains, and started again, a run ends as if nothing had happened."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtmed.networks.weights import load_checkpoint, load_weights

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
PATIENCE = 300  # seconds


class Command:
    """A training in a process of its own, whose lines can be waited for."""

    def __init__(self, words, log):
        self.log = log
        with log.open("a") as output:
            self.process = subprocess.Popen(words, env=ENVIRONMENT, stdout=output, stderr=output)

    def text(self):
        return self.log.read_text()

    def wait_for(self, line):
        end = time.monotonic() + PATIENCE
        while line not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, f"no {line!r} in {self.text()}"
            time.sleep(0.02)
        return self

    def children(self):
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid:
                found.append(int(status.parent.name))
        return found

    def end(self):
        return self.process.wait(PATIENCE)


def lives(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def command(ms_config, ms_options, arguments, tmp_path):
    """Starts the command that a user types, into a folder of its own."""
    started = []

    def start(name, variant="multi_output", **more):
        folders = {f"{kind}_dir": str(tmp_path / name / kind) for kind in ("output", "rough")}
        given = ms_options(variant, merged_lesions="in_sample", **{**folders, **more})
        words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(ms_config("train"))]
        started.append(Command([*words, *arguments(given)], tmp_path / f"{name}.txt"))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.end()


def digest(tensors):
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return sha.hexdigest()


def facts(folder):
    """Everything in which two runs must agree."""
    (rough,) = (folder / "rough").iterdir()
    checkpoint = load_checkpoint(folder / "output" / "checkpoint.pt")
    moments = {f"{k}/{n}": v for k, state in checkpoint["optimizer"]["state"].items() for n, v in state.items()}
    return {
        "losses": (folder / "output" / "losses.csv").read_bytes(),
        "rough losses": (rough / "losses.csv").read_bytes(),
        "weights": digest(checkpoint["model"]),
        "optimiser": digest(moments),
        "best": (checkpoint["best_metric"], checkpoint["best_metric_epoch"]),
        "model.pt": digest(load_weights(folder / "output" / "model.pt")["model"]),
        "rough.pt": digest(load_weights(folder / "output" / "rough.pt")["model"]),
        "iteration": checkpoint["iteration"],
    }


# in CI runs are killed at random moments instead: tests/reliability/test_random_kills.py
@pytest.mark.slow
def test_run_killed_in_both_trainings_ends_bit_identical(command, tmp_path):
    length = {"epochs": 6, "rough_epochs": 6, "val_interval": 1}
    whole = command("whole", **length)
    killed = command("killed", **length).wait_for("epoch 2/6  loss")
    (rough,) = killed.children()
    killed.process.kill()
    assert killed.end() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "output" / "checkpoint.pt").exists()
    # the process of the rough network ends with the one that started it
    end = time.monotonic() + 10
    while lives(rough) and time.monotonic() < end:
        time.sleep(0.05)
    assert not lives(rough)
    again = command("killed", **length).wait_for("tissue_dice")
    again.process.kill()
    assert again.end() == -signal.SIGKILL
    last = command("killed", **length)
    assert last.end() == 0, last.text()
    assert "Rough lesion network 1 of 1: found in" in last.text()
    assert "Continuing at epoch" in last.text()
    assert "Not bit-identical" not in last.text()
    assert "Traceback" not in last.text()
    assert whole.end() == 0, whole.text()
    assert facts(tmp_path / "killed") == facts(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("variant", ["multi_input"])
def test_signal_to_the_run_ends_the_rough_network_too(number, variant, command):
    run = command("signalled", variant, rough_epochs=5000).wait_for("epoch 3/5000  loss")
    (rough,) = run.children()
    run.process.send_signal(number)
    assert run.end() == -number
    end = time.monotonic() + 10
    while lives(rough) and time.monotonic() < end:
        time.sleep(0.05)
    assert not lives(rough)
    assert "Traceback" not in run.text()


@pytest.mark.slow
def test_finished_run_says_so(command):
    assert command("run", epochs=1).end() == 0
    again = command("run", epochs=1)
    assert again.end() == 0
    assert again.text().count("This run is finished") == 1
