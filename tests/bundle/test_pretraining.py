"""Pre-training inside a run: once, in its own folder, and on from where it was stopped."""

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from monai.bundle.scripts import run

from mtmed.bundle.pretraining import pretraining
from mtmed.errors import InputError

# the package has a function of this name
MODULE = importlib.import_module("mtmed.bundle.pretraining")
CONFIG = {"mode": "pretrained", "seed": 0, "epochs": 5, "device": "cpu", "output_dir": "run", "new": True}
OVERRIDES = {"mode": "auxiliary"}


class Parser:
    def __init__(self, config):
        self.config = config

    def get(self):
        return self.config


@pytest.fixture
def trainings(monkeypatch):
    """Configs that were run in place of being trained; the last one fails if it has the key ``fails``."""
    started = []

    def run_config(config, path, *, what, bundle):
        started.append(config)
        path.write_text(json.dumps(config))
        path.with_name("checkpoint.pt").touch()
        if config.get("device") == "broken":
            raise InputError(what, "ended with status 1", "see the lines above")
        path.with_name("shared.pt").write_text(str(len(started)))

    monkeypatch.setattr(MODULE, "run_config", run_config)
    return started


@pytest.fixture
def start(monkeypatch, tmp_path):
    def begin(**changes):
        monkeypatch.setattr(MODULE, "active_parser", lambda: Parser({**CONFIG, **changes}))
        return pretraining(tmp_path, overrides=OVERRIDES)

    return begin


def test_the_config_is_the_running_one_with_overrides(start, trainings, tmp_path):
    assert start() == str(tmp_path / "pretraining" / "shared.pt")
    own = {"output_dir": str(tmp_path / "pretraining"), "new": False}
    assert trainings == [{**CONFIG, **OVERRIDES, **own}]


def test_a_run_that_needs_none_gets_none(tmp_path):
    assert pretraining(tmp_path, overrides={}, when=False) is None
    assert not (tmp_path / "pretraining").exists()


def test_a_pre_training_that_would_need_one_is_a_programming_error(start, trainings, tmp_path):
    folder = Path(start()).parent
    with pytest.raises(ValueError, match="asks for pre-training"):
        pretraining(folder, overrides=OVERRIDES)


def test_a_finished_pre_training_is_found_again(start, trainings, tmp_path):
    first = start()
    assert start(device="cuda", workers=3) == first
    assert len(trainings) == 1


def test_one_that_did_not_end_goes_on(start, trainings):
    with pytest.raises(InputError, match="pre-training: ended with status 1"):
        start(device="broken")
    assert Path(start()).read_text() == "2"
    start()
    assert len(trainings) == 2


def test_other_settings_are_refused_whether_it_ended_or_not(start, trainings, tmp_path):
    with pytest.raises(InputError, match="ended"):
        start(device="broken")
    for _ in range(2):
        with pytest.raises(InputError, match=r"pretraining holds a run with another seed \(0 there, 1 now\)") as caught:
            start(seed=1)
        assert "--new true" in str(caught.value)
        assert Path(start()).is_file()
    assert len(trainings) == 2


def test_what_has_no_checkpoint_may_change(start, trainings, tmp_path):
    with pytest.raises(InputError, match="ended"):
        start(device="broken")
    (tmp_path / "pretraining" / "checkpoint.pt").unlink()
    start(seed=1)
    assert trainings[-1]["seed"] == 1


def test_it_gets_longer_only_until_the_run_has_begun(start, trainings, tmp_path):
    start()
    start(epochs=7)
    assert [config["epochs"] for config in trainings] == [5, 7]
    (tmp_path / "checkpoint.pt").touch()
    start(epochs=9)
    assert len(trainings) == 2


def test_a_longer_one_that_was_stopped_is_not_taken_for_finished(start, trainings):
    start()
    with pytest.raises(InputError, match="ended"):
        start(epochs=7, device="broken")
    start(epochs=7)
    assert len(trainings) == 3


def test_weights_that_were_removed_are_named(start, trainings, tmp_path, monkeypatch):
    path = Path(start())
    path.unlink()
    monkeypatch.setattr(MODULE, "run_config", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"shared\.pt: is missing though the pre-training has ended; remove "):
        start()


# what a bundle does, with counting in place of training
TRAINING = """
import os, pathlib, time
import torch

def train(folder, epochs, until):
    path = pathlib.Path(folder, "checkpoint.pt")
    start = torch.load(path)["iteration"] if path.is_file() else 0
    for iteration in range(start + 1, epochs + 1):
        with open(pathlib.Path(folder, "steps.txt"), "a") as file:
            file.write(f"{os.getpid()} {iteration}\\n")
        torch.save({"iteration": iteration}, path)
        while iteration == 2 and not pathlib.Path(until).exists():
            time.sleep(0.05)
    pathlib.Path(folder, "shared.pt").write_text(f"{epochs} epochs")
"""
RUN = {
    "imports": ["$import mtmed", "$import mtmed.bundle", "$import counting", "$import pathlib"],
    "mode": "pretrained",
    "new": False,
    "seed": 0,
    "epochs": 4,
    "until": "go",
    "output_dir": "run",
    "overrides": "${'mode': 'auxiliary', 'epochs': @epochs + 1}",
    "pretrained": "$mtmed.bundle.pretraining(@output_dir, overrides=@overrides, when=@mode == 'pretrained')",
    "start": "$pathlib.Path(@pretrained).read_text() if @pretrained else 'scratch'",
    "run": [
        "$mtmed.bundle.start_run(@output_dir, total_iterations=@epochs, new=@new)",
        "$pathlib.Path(@output_dir, 'start.txt').write_text(@start)",
        "$counting.train(@output_dir, @epochs, @until)",
    ],
}


LOGGING = (
    "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=h\n"
    "[handler_h]\nclass=StreamHandler\nargs=(sys.stdout,)\n"
)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_pre_training(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(TRAINING)
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "metadata.json").write_text("{}")
    (tmp_path / "logging.conf").write_text(LOGGING)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(tmp_path / "run.json")]
    folder = tmp_path / "run" / "pretraining"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def steps(where):
        path = where / "steps.txt"
        return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []

    caller = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until(lambda: len(steps(folder)) == 2 or caller.poll() is not None)
    assert caller.poll() is None
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    inner = int(steps(folder)[-1][0])
    until(lambda: not lives(inner))
    (tmp_path / "go").touch()
    run(config_file=str(tmp_path / "run.json"))
    # the pre-training has one epoch more, and each of them once
    assert [int(step) for _, step in steps(folder)] == [1, 2, 3, 4, 5]
    assert len({process for process, _ in steps(folder)}) == 2
    assert [int(step) for _, step in steps(folder.parent)] == [1, 2, 3, 4]
    assert (folder / "start.txt").read_text() == "scratch"
    assert (folder.parent / "start.txt").read_text() == "5 epochs"


def until(true, patience=90.0):
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def lives(process):
    """Whether a process is there and is no zombie that nobody waits for."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
