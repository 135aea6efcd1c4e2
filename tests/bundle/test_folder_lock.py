"""Two trainings do not meet in one folder."""

import fcntl
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from mtmed.bundle import folder_lock
from mtmed.bundle.folder_lock import lock_folder
from mtmed.bundle.messages import mendable
from mtmed.bundle.run_folder import finish_run
from mtmed.errors import InputError


class Training:
    """A process that trains in a folder, with a child that outlives it as a loader worker does for seconds."""

    def __init__(self, folder: Path) -> None:
        context, (told, tell) = multiprocessing.get_context("fork"), multiprocessing.Pipe(duplex=False)
        self.process = context.Process(target=train, args=(folder, tell))
        self.process.start()
        self.worker = told.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def train(folder: Path, tell: Connection) -> None:
    lock_folder(folder)
    worker = os.fork()
    if worker:
        tell.send(worker)
    while True:
        signal.pause()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "run"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def training(folder: Path) -> Iterator[Training]:
    started = Training(folder)
    yield started
    started.kill()
    os.kill(started.worker, signal.SIGKILL)


def refusal_elsewhere(folder: Path) -> str | None:
    """What another process is told that wants to train in the folder."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(refusal, (folder,))


def refusal(folder: Path) -> str | None:
    try:
        lock_folder(folder)
    except InputError as error:
        return str(error)
    return None


def test_a_second_training_is_told_who_trains_there(training: Training, folder: Path, tmp_path: Path) -> None:
    line = refusal(folder)
    assert line is not None
    assert line.startswith(f"output_dir: {folder} is in use by process {training.process.pid} on ")
    assert line.endswith("; wait until it has ended, or use another --output_dir")
    assert refusal(tmp_path) is None


def test_a_killed_training_leaves_its_folder_free_though_its_workers_live(training: Training, folder: Path) -> None:
    training.kill()
    os.kill(training.worker, 0)  # it lives
    assert refusal(folder) is None
    assert (folder / ".run.lock").read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("new", [False, True])
def test_a_folder_in_which_another_process_trains_is_not_touched(
    new: bool, run_toy: Callable[..., list[Any]], training: Training, folder: Path
) -> None:
    (folder / ".checkpoint.pt.4242.tmp").write_bytes(b"half")
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(RuntimeError) as caught:
        run_toy(output_dir=str(folder), new=new)
    assert "is in use by process" in str(mendable(caught.value))
    assert sorted(folder.parent.rglob("*")) == before


def test_one_who_trains_elsewhere_next_lets_go(folder: Path, tmp_path: Path) -> None:
    lock_folder(folder)
    assert refusal_elsewhere(folder) is not None
    lock_folder(tmp_path)
    assert refusal_elsewhere(folder) is None
    assert refusal_elsewhere(tmp_path) is not None
    finish_run("this is next")
    assert refusal_elsewhere(tmp_path) is None


def test_a_file_system_without_locks_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lacks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lacks)
    with caplog.at_level("WARNING", folder_lock.__name__):
        lock_folder(tmp_path)
    assert caplog.messages == [f"{tmp_path} cannot be locked (No locks available); start no second training there"]
