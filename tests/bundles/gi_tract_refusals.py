"""What a run of the GI tract bundle must be refused with: one line, the remedy, and nothing half-written."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gi_tract_inputs import GOOD, Prepare, options
from gi_tract_runs import GI_TRACT, run_gi_tract

from mtmed.bundle.messages import mendable

__all__ = ["CHECKED", "RUN", "BadInput", "assert_refused", "assert_refused_on_the_terminal"]

RUN = frozenset({".run.lock", "config.json", "log.txt"})
CHECKED = RUN | {"data_check.json"}
_CONFIGS = {"ensemble": ("evaluate", "ensemble"), "find_learning_rate": ("train", "find_learning_rate")}


@dataclass(frozen=True)
class BadInput:
    """What is done to a good run, and what the last line must say; ``{}`` stands for the folder.

    Attributes:
        name: of the test.
        said: pieces of the last line.
        options: of the run.
        prepare: makes the cohort.
        stage: ``train``, ``evaluate``, ``inference``, ``ensemble`` or ``find_learning_rate``.
        files: what may be in the run's folder; volumes may be stored once the data are checked.
    """

    name: str
    said: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    prepare: Prepare = field(default=GOOD)
    stage: str = "train"
    files: frozenset[str] = field(default=RUN)


def assert_refused(bad: BadInput, folder: Path) -> None:
    """Run in this process."""
    bad.prepare(folder)
    stage, *overlays = _CONFIGS.get(bad.stage, (bad.stage,))
    given = options(bad.stage, folder, bad.options)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run_gi_tract(stage, given, *overlays)
    found = mendable(caught.value)
    assert found is not None, caught.value
    _assert_said(str(found).splitlines(), bad, folder)
    _assert_nothing_half_written(bad, folder)


def assert_refused_on_the_terminal(bad: BadInput, folder: Path) -> None:
    """Run as a user does."""
    bad.prepare(folder)
    files = [str(GI_TRACT / f"{name}.json") for name in _CONFIGS.get(bad.stage, (bad.stage,))]
    given = options(bad.stage, folder, bad.options)
    words = ["--config_file", str(files), *(word for key, value in given.items() for word in (f"--{key}", str(value)))]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *words],
        cwd=GI_TRACT.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    # MONAI warns that a config is a program
    lines = [line for line in done.stderr.splitlines() if not re.search(r"UserWarning: parsing|^ +workflow = ", line)]
    assert done.returncode == 1, done.stderr
    assert lines[0].startswith("error: "), done.stderr
    _assert_said(lines, bad, folder)
    _assert_nothing_half_written(bad, folder)


def _assert_said(lines: list[str], bad: BadInput, folder: Path) -> None:
    # more than one only where the check of the data lists all that is wrong with them
    assert len(lines) <= 5, lines
    for piece in bad.said:
        assert piece.replace("{}", str(folder)) in lines[-1]


def _assert_nothing_half_written(bad: BadInput, folder: Path) -> None:
    assert {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*")} <= bad.files
    assert (folder / "store").exists() <= (bad.files == CHECKED)
    assert {path.name for path in folder.iterdir()} <= {"cohort", "out", "store", "model.pt", "other.pt", "resnet.pth"}
    assert not list(folder.rglob("*.tmp"))
