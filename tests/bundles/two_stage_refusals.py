"""What a run of the two-stage bundle must be refused with: one line, the remedy, and nothing half-written."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from two_stage_inputs import GOOD, Prepare, options
from two_stage_runs import TWO_STAGE, pretraining_in_process, run_two_stage

from mtmed.bundle.messages import mendable

__all__ = ["CHECKED", "FIRST_STEP", "NOTHING", "RUN", "BadInput", "assert_refused", "assert_refused_on_the_terminal"]

NOTHING: frozenset[str] = frozenset()
RUN = frozenset({".run.lock", "config.json", "log.txt"})
CHECKED = RUN | {"data_check.json"}
FIRST_STEP = CHECKED | {"events.out.*"}


@dataclass(frozen=True)
class BadInput:
    """What is done to a good run, and what the last line must say; ``{}`` stands for the folder.

    Attributes:
        name: of the test.
        said: pieces of the last line.
        options: of the run.
        prepare: makes the cohort.
        stage: ``stage1``, ``distill``, ``evaluate``, ``inference`` or ``run``.
        files: what may be in the run's folder, as patterns; volumes may be stored once the data are checked.
    """

    name: str
    said: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    prepare: Prepare = field(default=GOOD)
    stage: str = "stage1"
    files: frozenset[str] = field(default=RUN)


def assert_refused(bad: BadInput, folder: Path) -> None:
    """Run in this process."""
    bad.prepare(folder)
    before = _files(folder)
    with pytest.raises((RuntimeError, ValueError)) as caught, pretraining_in_process():
        run_two_stage(bad.stage, options(bad.stage, folder, bad.options))
    found = mendable(caught.value)
    assert found is not None, caught.value
    _assert_said(str(found).splitlines(), bad, folder)
    _assert_nothing_half_written(bad, folder, before)


def assert_refused_on_the_terminal(bad: BadInput, folder: Path) -> None:
    """Run as a user does."""
    bad.prepare(folder)
    before = _files(folder)
    given = options(bad.stage, folder, bad.options)
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(TWO_STAGE / f"{bad.stage}.json"), *words],
        cwd=TWO_STAGE.parents[1],
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
    _assert_nothing_half_written(bad, folder, before)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _assert_said(lines: list[str], bad: BadInput, folder: Path) -> None:
    # more than one only where the check of the data lists all that is wrong with them
    assert len(lines) <= 5, lines
    for piece in bad.said:
        assert piece.replace("{}", str(folder)) in lines[-1]


def _assert_nothing_half_written(bad: BadInput, folder: Path, before: set[str]) -> None:
    new = _files(folder) - before
    run = {name.removeprefix("out/") for name in new if name.startswith("out/")}
    assert not [name for name in run if not any(fnmatch(name, one) for one in bad.files)]
    assert {name for name in new if not name.startswith(("out", "store"))} == set()
    assert (folder / "store").exists() <= ("data_check.json" in bad.files)
    assert not any(name.endswith(".tmp") for name in new)
