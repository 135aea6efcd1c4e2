"""What a row of the catalogue of bad and odd inputs is, and what the real command line must make of it."""

import atexit
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from forked_program import ForkedProgram

__all__ = [
    "CHECKED",
    "FIRST_STEP",
    "NOTHING",
    "RUN",
    "Row",
    "assert_refused",
    "assert_works",
    "bundle",
    "mtmed",
    "parametrized",
    "run_row",
]

Prepare = Callable[[Path], Any]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
PATIENCE = 300  # seconds
MOST_LINES = 5  # on stderr, with the two of MONAI's warning that a config is a program
SHARE = 5  # CI runs each fifth row

NOTHING: frozenset[str] = frozenset()
RUN = frozenset({"config.json", "log.txt"})
CHECKED = RUN | {"data_check.json"}
FIRST_STEP = CHECKED | {"events.out.*"}


def bundle(name: str, stage: str | Sequence[str], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Words of ``python -m monai.bundle run``; the run's folder is ``{}/out``.

    Args:
        name: folder of the bundle.
        stage: name of its config, or of several, the first one and its overlays.
        options: what is overridden.
    """
    names = [stage] if isinstance(stage, str) else list(stage)
    files = [str(ROOT / "bundles" / name / f"{one}.json") for one in names]
    given = {"output_dir": "{}/out", **options}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return ("monai.bundle", "run", "--config_file", files[0] if len(files) == 1 else str(files), *words)


def mtmed(*words: str) -> tuple[str, ...]:
    """Words of ``mtmed``."""
    return ("mtmed.cli", *words)


@dataclass(frozen=True)
class Row:
    """What is done to a good input, the command that gets it, and what must be said; ``{}`` stands for the folder.

    Attributes:
        name: of the test.
        words: of the command after ``python -m``, see `bundle` and `mtmed`.
        said: pieces of the last line on stderr; of a legal row, of what is printed or logged.
        prepare: makes the cohort in the folder ``cohort`` and spoils it.
        legal: whether the command must work.
        files: what may be in the folder ``out`` afterwards, as patterns; of a legal row, what must be in it.
        workers: values of ``--workers``; None: the command has no such option.
        forked: whether the command starts from a process that has done the imports, which saves seconds.
    """

    name: str
    words: tuple[str, ...]
    said: tuple[str, ...] = ()
    prepare: Prepare = field(default=lambda folder: None)
    legal: bool = False
    files: frozenset[str] = field(default=CHECKED)
    workers: tuple[int | None, ...] = (0, 2)
    forked: bool = False


def parametrized(rows: Sequence[Row]) -> list[Any]:
    """Parameters ``row, workers`` of a test.

    CI runs each fifth row in a forked process, one without and the next with workers; all rows as the real program,
    with all their numbers of workers, are marked slow.
    """
    assert len({row.name for row in rows}) == len(rows)
    parameters = []
    for position, row in enumerate(rows[::SHARE]):
        workers = row.workers[position % len(row.workers)]
        parameters.append(pytest.param(replace(row, forked=True), workers, id=f"{_name(row, workers)}-forked"))
    for row in rows:
        for workers in row.workers:
            parameters.append(pytest.param(row, workers, id=_name(row, workers), marks=pytest.mark.slow))
    return parameters


def _name(row: Row, workers: int | None) -> str:
    return row.name if workers is None else f"{row.name}-w{workers}"


@functools.cache
def _forked_program() -> ForkedProgram:
    program = ForkedProgram(ROOT, ENVIRONMENT)
    atexit.register(program.close)
    return program


def run_row(row: Row, folder: Path, workers: int | None) -> subprocess.CompletedProcess[str]:
    """Run the command of a row as a user does, without a GPU."""
    words = [word.replace("{}", str(folder)) for word in row.words]
    if workers is not None:
        words += ["--workers", str(workers)]
    if row.forked:
        return _forked_program().run(words)
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def assert_refused(row: Row, folder: Path, workers: int | None) -> None:
    """The command fails with a short message that names culprit, problem and remedy, and writes nothing."""
    row.prepare(folder)
    before = _contents(folder)
    done = run_row(row, folder, workers)
    lines = done.stderr.splitlines()
    # a negative status is a process that a signal ended
    assert done.returncode > 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    assert 1 <= len(lines) <= MOST_LINES, done.stderr
    for piece in row.said:
        assert piece.replace("{}", str(folder)) in lines[-1], f"{piece!r} is not in the last line:\n{done.stderr}"
    _assert_nothing_written(row, folder, before)


def assert_works(row: Row, folder: Path, workers: int | None) -> None:
    """The command ends well, says what is odd, and leaves the files that it shall make."""
    row.prepare(folder)
    before = _contents(folder)
    done = run_row(row, folder, workers)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    for piece in row.said:
        assert piece.replace("{}", str(folder)) in done.stdout, f"{piece!r} is not said:\n{done.stdout}"
    names = [name.removeprefix("out/") for name in _contents(folder)]
    assert not [pattern for pattern in row.files if not any(fnmatch(name, pattern) for name in names)], names
    assert not [name for name in names if name.endswith(".tmp")]
    _assert_inputs_untouched(folder, before)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _assert_inputs_untouched(folder: Path, before: Mapping[str, bytes]) -> None:
    after = _contents(folder)
    assert not [name for name, content in before.items() if after.get(name) != content]


def _assert_nothing_written(row: Row, folder: Path, before: Mapping[str, bytes]) -> None:
    _assert_inputs_untouched(folder, before)
    new = _contents(folder).keys() - before.keys()
    assert not [name for name in new if name.endswith(".tmp")]
    # volumes are stored once the data were checked
    checked = "out/data_check.json" in new
    new = {name for name in new if not (checked and name.startswith("store/"))}
    outside = {name for name in new if not name.startswith("out/")}
    assert not outside
    allowed = {*row.files, ".run.lock"} if "log.txt" in row.files else row.files
    assert not [name for name in new if not any(fnmatch(name, f"out/{pattern}") for pattern in allowed)]
