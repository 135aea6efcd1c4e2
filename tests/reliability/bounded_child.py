"""Reading files that may do anything, in a child with bounds of memory and time, and telling what came of each."""

import faulthandler
import os
import resource
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mtmed.errors import InputError

__all__ = ["Outcome", "Sample", "read_bounded"]

MEMORY = 2 * 2**30  # bytes above those of the child's start
BATCH = 300  # files of one child
_STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn")
_REACHES = ("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


@dataclass(frozen=True)
class Sample:
    """A kind of file: how number n is written, and what reads it.

    Attributes:
        name: of the kind.
        write: writes file number n into a folder of its own, and gives the path to be read.
        read: the reader.
    """

    name: str
    write: Callable[[int, Path], Path]
    read: Callable[[Path], object]


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        number: of the file.
        result: ``"read"``, ``"refused"``, or a fault in one line.
        place: folder where the file still lies, if there was a fault.
    """

    number: int
    result: str
    place: Path

    @property
    def is_fault(self) -> bool:
        return self.result not in ("read", "refused")


def read_bounded(sample: Sample, numbers: Sequence[int], folder: Path, *, patience: float = 10.0) -> list[Outcome]:
    """Read files in forked children, each with 2 GiB of memory above what it starts with.

    A file that ends its child or outlasts it is a fault, and the next child goes on with the next file.

    Args:
        sample: the kind of files.
        numbers: which of them.
        folder: where each gets a folder of its own, which only stays if there was a fault.
        patience: seconds for one file.

    Returns:
        One outcome per number, in order.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(numbers):
        rest = numbers[len(outcomes) :][:BATCH]
        results = list(_run_child(sample, rest, folder, patience))
        assert results, f"a child ended before it read its first file, {sample.name} {rest[0]}"
        outcomes += [
            Outcome(number, result, _place(sample, number, folder))
            for number, result in zip(rest, results, strict=False)
        ]
    assert [outcome.number for outcome in outcomes] == list(numbers)
    return outcomes


def _place(sample: Sample, number: int, folder: Path) -> Path:
    return folder / f"{sample.name.replace(' ', '_').replace('.', '_')}_{number}"


def _run_child(sample: Sample, numbers: Sequence[int], folder: Path, patience: float) -> Iterator[str]:
    """Results of the numbers from the first on, up to the one that ends the child."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _read_all(sample, numbers, folder, theirs)
    os.close(theirs)
    told, waiting = 0, b""
    try:
        while select.select([ours], [], [], patience)[0]:
            received = os.read(ours, 65536)
            if not received:
                break
            *lines, waiting = (waiting + received).split(b"\n")
            for line in lines:
                told += 1
                yield line.decode(errors="replace")
        else:
            os.kill(child, signal.SIGKILL)
            yield f"is not read within {patience:g} s"
            return
    finally:
        os.close(ours)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if told < len(numbers):
        yield f"ends the process with the status {status}"
    assert status == 0 or told < len(numbers), f"a child ended with the status {status} after its last file"


def _read_all(sample: Sample, numbers: Sequence[int], folder: Path, answer: int) -> NoReturn:
    """The child: one line for each file."""
    status = 1
    try:
        faulthandler.disable()
        sys.dont_write_bytecode = True
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # what libraries print of damaged files
            os.dup2(null, stream)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
        done: list[str] = []  # whatever a file made the process do
        watched = [False]

        def watch(event: str, given: tuple[object, ...]) -> None:
            if not watched[0]:
                return
            writes = event == "open" and isinstance(given[2], int) and given[2] & _WRITING
            if writes or event in _STARTS or event in _REACHES or event in _CHANGES:
                done.append(f"{event} {given[0]!r}")

        sys.addaudithook(watch)
        for number in numbers:
            place = _place(sample, number, folder)
            place.mkdir()
            path = sample.write(number, place)
            before = sorted(folder.rglob("*"))
            os.chdir(place)
            done.clear()
            watched[0] = True
            result = _result(sample, path)
            watched[0] = False
            if sorted(folder.rglob("*")) != before or done:
                result = f"has a side effect: {', '.join(done) or 'a file is written or gone'}"
            if result in ("read", "refused"):
                os.chdir(folder)
                shutil.rmtree(place)
            os.write(answer, result.encode(errors="backslashreplace").replace(b"\n", b" | ") + b"\n")
        status = 0
    finally:
        os._exit(status)


def _result(sample: Sample, path: Path) -> str:
    try:
        sample.read(path)
    except InputError as error:
        lines = str(error).splitlines()
        return "refused" if len(lines) == 1 and error.remedy else f"is refused in {len(lines)} lines: {error}"
    except BaseException as error:  # all others are what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        where = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-4:])
        return f"raises {type(error).__name__}: {str(error)[:200]} ({where})"
    return "read"
