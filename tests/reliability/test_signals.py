"""A run that is asked to end saves and ends within 30 seconds; the same command ends as if it had not been asked."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gi_tract_runs import GI_TRACT
from gi_tract_runs import tiny_options as tiny_gi_tract
from random_kills import facts_of, fragments
from signalled_runs import ENVIRONMENT, Program, ended_by
from trained_stages import STAGES, Stage, Stages

from mtmed.interruption import SIGNALS
from mtmed.networks.weights import load_checkpoint

IN_TIME = 30.0  # seconds


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    started = Program()
    yield started
    started.close()


@pytest.fixture(scope="module")
def stages(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return Stages(tmp_path_factory.mktemp("stages"), program)


def last_line(out: Path) -> str:
    return Path(f"{out}.err").read_text().strip().splitlines()[-1]


def test_training_interrupted_twice_ends_bit_identical(program: Program, stages: Stages, tmp_path: Path) -> None:
    training, length = stages["gi_tract train"], {"epochs": 3, "iterations_per_epoch": 6, "val_interval": 2}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = training.words(whole, workers=0, **length)
    assert program.run(words, tmp_path / "whole.txt") == 0, last_line(tmp_path / "whole.txt")
    words, out, before = training.words(stopped, workers=0, **length), tmp_path / "stopped.txt", 0
    for number, until in ((signal.SIGTERM, "\nRun folder: "), (signal.SIGINT, "\nepoch 2/")):
        status = program.run(words, out, number=number, until=until, delay=0.05)
        assert status == ended_by(number), out.read_text()
        assert program.seconds < IN_TIME
        assert last_line(out).startswith("interrupted")
        if (stopped / "output" / "checkpoint.pt").is_file():
            iteration = load_checkpoint(stopped / "output" / "checkpoint.pt")["iteration"]
            assert iteration > before
            assert last_line(out) == f"interrupted at iteration {iteration}; the same command continues"
            before = iteration
    assert before >= 12
    assert program.run(words, out) == 0, last_line(out)
    assert_alike(stopped, whole, out)


def assert_alike(stopped: Path, whole: Path, out: Path) -> None:
    facts, expected = facts_of(stopped), facts_of(whole)
    assert [key for key in facts.keys() | expected.keys() if facts.get(key) != expected.get(key)] == []
    assert fragments(stopped) == []
    assert "Traceback" not in Path(f"{out}.err").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_training_interrupted_at_random_moments_ends_bit_identical(
    name: str, program: Program, stages: Stages, tmp_path: Path
) -> None:
    """Ten per training, from its first moment to its last: store, data check, iterations, validations, the end."""
    training = stages[name]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert program.run(training.words(whole, workers=0), tmp_path / "whole.txt") == 0
    duration, moments, out = program.seconds, random.Random(name), tmp_path / "stopped.txt"
    heard, longest = 0, 0.0
    while heard < 10:
        number = moments.choice(SIGNALS)
        words = training.words(stopped, workers=moments.randrange(3))
        status = program.run(words, out, number=number, delay=moments.uniform(0.3, duration / 2))
        if status == 0:
            # the run was over; another one
            assert_alike(stopped, whole, out)
            stopped = tmp_path / f"stopped-{heard}"
            continue
        heard, longest = heard + 1, max(longest, program.seconds)
        assert longest < IN_TIME
        if status == -number:
            continue  # before mtmed is imported, or after the run's last line: nothing is under way
        assert status == ended_by(number), out.read_text() + Path(f"{out}.err").read_text()
        assert last_line(out).startswith("interrupted")
    assert program.run(training.words(stopped, workers=0), out) == 0, last_line(out)
    assert_alike(stopped, whole, out)
    print(f"{name}: {heard} signals, ended within {longest:.1f} s")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["inference", "evaluate"])
def test_predictions_and_scores_interrupted_at_random_moments_are_whole_or_not_there(
    stage: str, program: Program, stages: Stages, tmp_path: Path
) -> None:
    trained = stages.trained("gi_tract train", "model.pt")
    data = {"data": stages["gi_tract train"].given["dataset_dir"], "store": ""}
    given = tiny_gi_tract(stage, data, checkpoint=trained)
    command = Stage(f"gi_tract {stage}", GI_TRACT / f"{stage}.json", given)

    def words(folder: Path) -> list[str]:
        # neither keeps a store
        found = command.words(folder, workers=0)
        at = found.index("--store_dir")
        return found[:at] + found[at + 2 :]

    def results(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".gz", ".csv", ".html")}

    assert program.run(words(tmp_path / "whole"), tmp_path / "whole.txt") == 0, last_line(tmp_path / "whole.txt")
    duration, moments, out, whole = (
        program.seconds,
        random.Random(stage),
        tmp_path / "out.txt",
        results(tmp_path / "whole"),
    )
    assert whole
    for attempt in range(10):
        folder, number = tmp_path / f"stopped{attempt}", moments.choice(SIGNALS)
        status = program.run(words(folder), out, number=number, delay=moments.uniform(0.1, duration))
        assert status in (0, -number, ended_by(number)), Path(f"{out}.err").read_text()
        assert program.seconds < IN_TIME
        assert results(folder).items() <= whole.items()
        assert program.run(words(folder), out) == 0, last_line(out)
        assert results(folder) == whole
        assert fragments(folder) == []
    assert "Traceback" not in Path(f"{out}.err").read_text()


@pytest.mark.slow
def test_two_processes_stop_after_the_same_iteration_and_go_on_bit_identical(stages: Stages, tmp_path: Path) -> None:
    training = stages["gi_tract train"].with_overlay("multi_gpu")

    def start(output: Path, out: Path) -> subprocess.Popen[bytes]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
        length: dict[str, Any] = {"epochs": 3, "iterations_per_epoch": 10, "batch_size": 4}
        words = training.words(output, workers=0, **length)
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
    iteration = load_checkpoint(stopped / "output" / "checkpoint.pt")["iteration"]
    assert iteration >= 10
    assert f"interrupted at iteration {iteration}; the same command continues" in out.read_text()
    assert start(stopped, out).wait(600) == 0, out.read_text()
    assert facts_of(stopped) == facts_of(whole)
