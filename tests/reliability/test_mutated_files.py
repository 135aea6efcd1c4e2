"""Mutated files are read or refused in one line, within bounds of memory and time, and nothing in them is run."""

import os
import pickle
import subprocess
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bounded_child import Outcome, Sample, read_bounded
from mutated_files import samples

from mtmed.errors import InputError
from mtmed.networks import load_network, load_weights

WHOLE = {"NIfTI": 2500, "PNG": 1500, "DICOM": 1500, "JSON": 1500, "CSV": 1000, "weights": 2000}


def read_shares(folder: Path, divisor: int) -> None:
    """Read a share of each kind; print how many of them were read and how many refused; fail if there is a fault."""
    faults: list[str] = []
    (folder / "originals").mkdir()
    (folder / "mutants").mkdir()
    for sample in samples(folder / "originals"):
        count = WHOLE[sample.name] // divisor
        outcomes = read_bounded(sample, range(count), folder / "mutants")
        results = Counter("fault" if one.is_fault else one.result for one in outcomes)
        print(f"{sample.name}: {count} files, {results['read']} read, {results['refused']} refused")
        faults += [f"{sample.name} {one.number}: {one.result}; {one.place}" for one in outcomes if one.is_fault]
        # mutations that nearly never, or nearly always, get past the reader would show nothing
        assert results["refused"] >= count // 5
        assert results["read"] >= count // 50
    assert faults == [], "\n".join(faults)


def test_four_hundred_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    read_shares(tmp_path, 25)


@pytest.mark.slow
def test_ten_thousand_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    read_shares(tmp_path, 1)


def write_number(number: int, place: Path) -> Path:
    path = place / "file"
    path.write_text(str(number))
    return path


def fills_memory(path: Path) -> None:
    np.ones(3 * 2**30, np.uint8)


def never_ends(path: Path) -> None:
    time.sleep(60)


def speaks_in_lines(path: Path) -> None:
    raise InputError(path, "has lines", "write it again", [InputError(path, "has one", "delete it")])


def writes_a_file(path: Path) -> None:
    path.with_name("trap").write_text("sprung")


def writes_and_removes(path: Path) -> None:
    writes_a_file(path)
    path.with_name("trap").unlink()


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        pytest.param(lambda path: int("x"), "raises ValueError", id="raises"),
        pytest.param(lambda path: os.abort(), "ends the process with the status -6", id="aborts"),
        pytest.param(lambda path: os._exit(0), "ends the process with the status 0", id="leaves"),
        pytest.param(fills_memory, "raises", id="fills the memory"),
        pytest.param(never_ends, "is not read within 0.5 s", id="never ends"),
        pytest.param(speaks_in_lines, "is refused in 3 lines", id="speaks in lines"),
        pytest.param(writes_a_file, "has a side effect: open", id="writes"),
        pytest.param(writes_and_removes, "has a side effect: open", id="writes and removes"),
        pytest.param(lambda path: os.system("true"), "has a side effect: os.system", id="runs a command"),
        pytest.param(lambda path: subprocess.run(["true"]), "has a side effect: subprocess", id="starts a program"),
    ],
)
def test_the_child_tells_what_a_reader_must_not_do(read: Callable[[Path], object], fault: str, tmp_path: Path) -> None:
    def read_odd(path: Path) -> None:
        if path.read_text() == "1":
            read(path)

    outcomes = read_bounded(Sample("odd", write_number, read_odd), range(3), tmp_path, patience=0.5)
    assert [outcome.result for outcome in outcomes[::2]] == ["read", "read"]
    assert outcomes[1].is_fault
    assert outcomes[1].result.startswith(fault), outcomes[1].result
    assert (outcomes[1].place / "file").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd_1"]


def test_a_child_that_dies_before_its_first_file_is_no_silence(tmp_path: Path) -> None:
    def no_file(number: int, place: Path) -> Path:
        raise OSError("no room")

    outcomes = read_bounded(Sample("odd", no_file, len), [0], tmp_path)
    assert outcomes == [Outcome(0, "ends the process with the status 1", tmp_path / "odd_0")]


# protocol 0 is text: c names what is called, ( to t are its arguments, R calls it
HOSTILE = {
    "os.system": b"cos\nsystem\n(S'touch trap'\ntR.",
    "posix.system": b"cposix\nsystem\n(S'touch trap'\ntR.",
    "builtins.eval": b"cbuiltins\neval\n(Vopen('trap', 'w')\ntR.",
    "builtins.eval through getattr": b"cbuiltins\ngetattr\n(cbuiltins\neval\nV__call__\ntR(Vopen('trap', 'w')\ntR.",
    "a nested name": b"\x80\x04\x8c\x06shutil\x8c\x09os.system\x93\x8c\x0atouch trap\x85R.",
    "subprocess": b"csubprocess\ncheck_call\n((S'touch'\nS'trap'\nltR.",
    "an instance": b"(S'touch trap'\nios\nsystem\n.",
    "an object": b"(cos\nsystem\nS'touch trap'\no.",
    "a partial call": b"cfunctools\npartial\n(cos\nsystem\nS'touch trap'\ntR)R.",
    "a call inside a dictionary": b"}S'model'\ncos\nsystem\n(S'touch trap'\ntRs.",
    "a call that rebuilds a tensor": b"ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\n(S'touch trap'\ntRtR.",
}


def write_pickle(what: str) -> Callable[[int, Path], Path]:
    def write(number: int, place: Path) -> Path:
        (place / "a.pkl").write_bytes(HOSTILE[what])
        return place / "a.pkl"

    return write


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_pickle_would_write_its_trap(what: str, tmp_path: Path) -> None:
    (outcome,) = read_bounded(
        Sample("armed", write_pickle(what), lambda path: pickle.loads(path.read_bytes())), [0], tmp_path
    )
    assert outcome.is_fault
    assert (outcome.place / "trap").is_file()


@pytest.mark.parametrize("what", HOSTILE)
def test_no_hostile_pickle_is_run(what: str, tmp_path: Path) -> None:
    torch.save({"model": {}, "network_def": {}, "settings": {}}, tmp_path / "plain.pt")

    def write(number: int, place: Path) -> Path:
        path = place / "model.pt"
        if number == 1:
            path.write_bytes(HOSTILE[what])
            return path
        with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(path, "w") as hostile:
            for record in plain.namelist():
                hostile.writestr(record, HOSTILE[what] if record.endswith("data.pkl") else plain.read(record))
        return path

    for read in (load_weights, load_network):
        outcomes = read_bounded(Sample("hostile", write, read), range(2), tmp_path)
        assert [outcome.result for outcome in outcomes] == ["refused", "refused"]
    assert [path.name for path in tmp_path.iterdir()] == ["plain.pt"]
