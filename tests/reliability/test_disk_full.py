"""A full disk ends a writer with the file that had no room, leaves what was whole, and with room it writes."""

import errno
import logging
import os
import resource
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from mtmed.bundle import messages
from mtmed.bundle.log_file import LogFile
from mtmed.data import VolumeStore
from mtmed.data.case import Case
from mtmed.errors import InputError
from mtmed.files import atomic_file
from mtmed.handlers import LossHistory, TensorBoardLog
from mtmed.networks import build_network, save_network
from mtmed.networks.weights import atomic_save
from mtmed.transforms import LoadVolumed
from mtmed.transforms.writing import write_nifti_label

ROOM = 5000  # bytes that a file may have
OUTPUT: dict[str, Any] = {"loss": 1 / 3, "losses": {"dice": 1 / 7}, "weights": {}, "learning_rate": 1e-3}
NETWORK = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [16, 16],
    "strides": [2],
}


def write_checkpoint(folder: Path) -> None:
    atomic_save({"model": torch.zeros(20_000)}, folder / "checkpoint.pt")


def write_weights(folder: Path) -> None:
    save_network(folder / "model.pt", build_network(NETWORK), {})


def write_prediction(folder: Path) -> None:
    label = np.random.default_rng(0).integers(0, 9, (40, 40, 40), dtype=np.uint8)
    write_nifti_label(folder / "scan_seg.nii.gz", label, like=folder / "scan.nii.gz")


def write_losses(folder: Path) -> None:
    history = LossHistory(path=folder / "losses.csv")
    for number in range(1000):
        history._add(SimpleNamespace(state=SimpleNamespace(iteration=number, output=OUTPUT)))  # type: ignore[arg-type]
    history._write()


def write_log(folder: Path) -> None:
    log = LogFile(folder / "log.txt")
    for number in range(1000):
        log.handle(logging.makeLogRecord({"msg": f"epoch {number}/1000"}))


def write_events(folder: Path) -> None:
    # what MONAI's program does with a thread's report and with Ignite's
    threading.excepthook = messages._print_unless_full
    trainer = Engine(lambda engine, batch: {**OUTPUT, "outputs": {}, "views": {}})
    trainer.logger.setLevel(logging.CRITICAL)
    TensorBoardLog(log_dir=folder / "events").attach(trainer)
    trainer.run([0] * 500, max_epochs=1)


def write_report(folder: Path) -> None:
    with atomic_file(folder / "scores.csv") as file:
        file.write(b"case,dice\n" * 5000)


def write_store(folder: Path) -> None:
    store = VolumeStore(folder / "store", transforms=[LoadVolumed(keys="image")])
    store.build([Case("scan", (str(folder / "scan.nii.gz"),), None, "p", "Toy")], workers=1)


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "checkpoint": (write_checkpoint, "checkpoint.pt"),
    "weights": (write_weights, "model.pt"),
    "prediction": (write_prediction, "scan_seg.nii.gz"),
    "table of losses": (write_losses, "losses.csv"),
    "log": (write_log, "log.txt"),
    "TensorBoard": (write_events, "events"),
    "report": (write_report, "scores.csv"),
    "volume store": (write_store, "store"),
}


def in_a_child(write: Callable[[Path], None], folder: Path, said: Path, *, room: int | None) -> int:
    """Exit status of a writer in a process whose files may have so many bytes, which to it is a full disk."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            out = os.open(said, os.O_CREAT | os.O_WRONLY)
            os.dup2(out, 2)
            sys.stderr = os.fdopen(2, "w")
            if room is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            write(folder)
            status = 0
        except InputError as error:
            print(error, file=sys.stderr)
            status = 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = np.random.default_rng(1).normal(size=(40, 40, 40)).astype(np.float32)
    (tmp_path / "run").mkdir()
    nib.Nifti1Image(image, np.eye(4)).to_filename(tmp_path / "run" / "scan.nii.gz")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its place, but for locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and "locks" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk_names_the_file_leaves_no_fragment_and_is_over_with_room(
    name: str, folder: Path, tmp_path: Path
) -> None:
    write, culprit = WRITERS[name]
    before, said = contents(folder), tmp_path / "said.txt"
    assert in_a_child(write, folder, said, room=ROOM) == 1, said.read_text()
    text = said.read_text()
    assert text.count("\n") == 1, text
    assert text.startswith(str(folder / culprit))
    assert "no space left" in text
    left = contents(folder)
    # these are written on and on, and cut back by a run that goes on
    appended = {"losses.csv", "log.txt"} | {name for name in left if "tfevents" in name}
    assert {name: left[name] for name in left.keys() - appended} == before
    assert in_a_child(write, folder, said, room=None) == 0, said.read_text()
    assert len(contents(folder)) > len(before)


@pytest.mark.parametrize("name", ["checkpoint", "weights", "prediction", "report"])
def test_full_disk_leaves_the_file_that_was_there_before(name: str, folder: Path, tmp_path: Path) -> None:
    write, _ = WRITERS[name]
    write(folder)
    before = contents(folder)
    assert in_a_child(write, folder, tmp_path / "said.txt", room=ROOM) == 1
    assert contents(folder) == before


class FullDisk:
    """A stream without room."""

    def write(self, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Nothing was opened."""


def test_log_that_cannot_be_written_ends_the_run_instead_of_going_on_without(tmp_path: Path) -> None:
    log, record = LogFile(tmp_path / "log.txt"), logging.makeLogRecord({"msg": "epoch 1/2"})
    log.handle(record)
    log.stream.close()
    stream: Any = FullDisk()
    log.stream = stream
    with pytest.raises(InputError, match=r"log\.txt: no space left on the disk"):
        log.handle(record)
    assert (tmp_path / "log.txt").read_text() == "epoch 1/2\n"
