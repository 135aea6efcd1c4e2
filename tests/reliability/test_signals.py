"""A run that is asked to end saves and ends within 30 seconds; the same command ends as if it had not been asked."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gi_tract_runs import GI_TRACT, write_abdomens
from gi_tract_runs import tiny_options as tiny_gi_tract
from launching import run_facts
from siamese_kidney_runs import SIAMESE_KIDNEY, write_kidneys
from siamese_kidney_runs import tiny_options as tiny_siamese
from signalled_runs import ENVIRONMENT, Program, ended_by

from mtmed.networks.weights import load_checkpoint

IN_TIME = 30.0  # seconds
BUNDLES: dict[str, tuple[Path, str, Callable[..., str], Callable[..., dict[str, Any]]]] = {
    "gi_tract": (GI_TRACT, "train", write_abdomens, tiny_gi_tract),
    "siamese_kidney": (SIAMESE_KIDNEY, "pretrain", write_kidneys, tiny_siamese),
}


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    started = Program()
    yield started
    started.close()


class Training:
    """Commands of a tiny training of a bundle, all on one cohort and one store."""

    def __init__(self, name: str, folder: Path, **length: Any) -> None:
        self.bundle, self.stage, write, self.tiny = BUNDLES[name]
        self.data = {"data": write(folder / "data"), "store": str(folder / "store")}
        self.length = length

    def words(self, output: Path) -> list[str]:
        given = self.tiny(self.stage, self.data, output_dir=str(output), **self.length)
        options = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        return ["run", "--config_file", str(self.bundle / f"{self.stage}.json"), *options]


def last_line(out: Path) -> str:
    return Path(f"{out}.err").read_text().strip().splitlines()[-1]


def test_training_interrupted_twice_ends_bit_identical(program: Program, tmp_path: Path) -> None:
    training = Training("gi_tract", tmp_path, epochs=3, iterations_per_epoch=6, val_interval=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert program.run(training.words(whole), tmp_path / "whole.txt") == 0, last_line(tmp_path / "whole.txt")
    out, before = tmp_path / "stopped.txt", 0
    for number, until in ((signal.SIGTERM, "\nRun folder: "), (signal.SIGINT, "\nepoch 2/")):
        status = program.run(training.words(stopped), out, number=number, until=until, delay=0.05)
        assert status == ended_by(number), out.read_text()
        assert program.seconds < IN_TIME
        assert last_line(out).startswith("interrupted")
        if (stopped / "checkpoint.pt").is_file():
            iteration = load_checkpoint(stopped / "checkpoint.pt")["iteration"]
            assert iteration > before
            assert last_line(out) == f"interrupted at iteration {iteration}; the same command continues"
            before = iteration
    assert before >= 12
    assert program.run(training.words(stopped), out) == 0, last_line(out)
    assert run_facts(stopped) == run_facts(whole)
    assert not list(stopped.glob(".*"))
    assert "Traceback" not in Path(f"{out}.err").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_training_interrupted_at_random_moments_ends_bit_identical(name: str, program: Program, tmp_path: Path) -> None:
    """Ten per training, from its first moment to its last: store, data check, iterations, validations, the end."""
    training = Training(name, tmp_path, epochs=6, iterations_per_epoch=10, val_interval=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert program.run(training.words(whole), tmp_path / "whole.txt") == 0
    duration, moments, out = program.seconds, random.Random(name), tmp_path / "stopped.txt"
    heard = 0
    while heard < 10:
        number = moments.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
        status = program.run(training.words(stopped), out, number=number, delay=moments.uniform(0.3, duration / 2))
        assert program.seconds < IN_TIME
        if status == 0:
            # the run was over; another one
            assert run_facts(stopped) == run_facts(whole)
            stopped = tmp_path / f"stopped-{heard}"
            continue
        heard += 1
        if status == -number:
            continue  # before mtmed is imported, or after the run's last line: nothing is under way
        assert status == ended_by(number), out.read_text() + Path(f"{out}.err").read_text()
        assert last_line(out).startswith("interrupted")
    assert program.run(training.words(stopped), out) == 0, last_line(out)
    assert run_facts(stopped) == run_facts(whole)
    assert not list(stopped.glob(".*"))
    assert "Traceback" not in Path(f"{out}.err").read_text()


@pytest.mark.slow
def test_two_processes_stop_after_the_same_iteration_and_go_on_bit_identical(tmp_path: Path) -> None:
    training = Training("gi_tract", tmp_path, epochs=3, iterations_per_epoch=10, batch_size=4)

    def start(output: Path, out: Path) -> subprocess.Popen[bytes]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
        words = training.words(output)
        words[words.index("--config_file") + 1] = str([str(GI_TRACT / "train.json"), str(GI_TRACT / "multi_gpu.json")])
        with out.open("ab") as file:
            return subprocess.Popen([*command, "-m", "monai.bundle", *words], env=ENVIRONMENT, stdout=file, stderr=file)

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert start(whole, tmp_path / "whole.txt").wait(600) == 0, (tmp_path / "whole.txt").read_text()
    out = tmp_path / "stopped.txt"
    torchrun = start(stopped, out)
    while "epoch 1/" not in out.read_text() and torchrun.poll() is None:
        time.sleep(0.01)
    os.kill(torchrun.pid, signal.SIGTERM)
    asked = time.monotonic()
    assert torchrun.wait(120) != 0
    assert time.monotonic() - asked < IN_TIME
    iteration = load_checkpoint(stopped / "checkpoint.pt")["iteration"]
    assert iteration >= 10
    assert f"interrupted at iteration {iteration}; the same command continues" in out.read_text()
    assert start(stopped, out).wait(600) == 0, out.read_text()
    assert run_facts(stopped) == run_facts(whole)
