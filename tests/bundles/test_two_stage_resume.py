"""Killed in either stage and started again, the two-stage bundle ends as if nothing had happened."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from launching import Launcher, run_facts
from two_stage_runs import losses_of

# how long the parts of these runs are, in epochs of 3 iterations
EPOCHS = {"epochs": 3, "pretraining_epochs": 4, "iterations_per_epoch": 3}


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    started = Launcher()
    yield started
    started.close()


@pytest.fixture
def words(two_stage_config: Any, two_stage_options: Any, arguments: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """The command of a stage into a folder."""

    def make(stage: str, name: str, **more: Any) -> list[str]:
        given = two_stage_options(stage, output_dir=str(tmp_path / name), **more)
        return ["run", "--config_file", str(two_stage_config(stage)), *arguments(given)]

    return make


@pytest.fixture
def finish(launcher: Launcher, words: Any, tmp_path: Path) -> Callable[..., Path]:
    """Run a stage to its end, after it was killed behind so many epoch lines."""

    def go(stage: str, name: str, *, kill_after: int | None = None, **given: Any) -> Path:
        log = tmp_path / f"{name}.txt"
        if kill_after is not None:
            delay = random.Random(f"{name}{kill_after}").uniform(0, 0.05)
            status = launcher.run(words(stage, name, **given), log, kill_after=kill_after, delay=delay)
            assert status == -signal.SIGKILL, log.read_text()
        assert launcher.run(words(stage, name, **given), log) == 0, log.read_text()
        text = log.read_text()
        assert text.count("Continuing at epoch") == (kill_after is not None)
        assert "Not bit-identical" not in text
        assert "Traceback" not in text
        return tmp_path / name

    return go


def assert_alike(one: Path, other: Path, iterations: int) -> None:
    assert run_facts(one) == run_facts(other)
    assert [row["iteration"] for row in losses_of(one)] == list(range(1, iterations + 1))


# a weighting that looks at gradients, one that is drawn at random, a queue, and images without labels go on as well
JOINT = {
    "all": {"task": "all", "weighting": "random", "queue_size": 16},
    "unlabelled": {"task": "momentum_contrast", "unlabelled": True, "weighting": "gradient_similarity"},
}


# in CI runs are killed at random moments instead: tests/reliability/test_random_kills.py
@pytest.mark.slow
@pytest.mark.parametrize("name", JOINT)
def test_a_run_killed_with_a_task_beside_it_ends_bit_identical(name: str, finish: Any) -> None:
    given = {**JOINT[name], "epochs": 3, "iterations_per_epoch": 3}
    whole = finish("stage1", "whole", **given)
    killed = finish("stage1", "killed", kill_after=1, **given)
    assert_alike(killed, whole, 9)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["in_painting", "momentum_contrast"])
def test_a_run_killed_in_its_pre_training_or_after_it_ends_bit_identical(task: str, finish: Any) -> None:
    given = {**EPOCHS, "task": task, "mode": "pretrained"}
    whole = finish("stage1", "whole", **given)
    # the lines of the pre-training stand among those of the run
    for name, lines in (("early", 1), ("late", 5)):
        killed = finish("stage1", name, kill_after=lines, **given)
        assert_alike(killed / "pretraining", whole / "pretraining", 12)
        assert_alike(killed, whole, 9)


@pytest.mark.slow
def test_a_student_killed_ends_bit_identical(finish: Any, trained_two_stage: Any) -> None:
    paths = [str(trained_two_stage(task) / "model.pt") for task in ("none", "inner_distance")]
    given = {"teachers": paths, "epochs": 3, "iterations_per_epoch": 3, "unlabelled": True}
    whole = finish("distill", "whole", **given)
    killed = finish("distill", "killed", kill_after=1, **given)
    assert_alike(killed, whole, 9)
