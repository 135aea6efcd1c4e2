"""A folder that is generated once: under a lock, beside its final place, and renamed when it is whole."""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock

from mtmed.errors import InputError

__all__ = ["made_elsewhere", "made_once"]

_ELSEWHERE: ContextVar[Path | None] = ContextVar("elsewhere", default=None)


@contextmanager
def made_elsewhere(folder: str | Path) -> Iterator[None]:
    """Within this, what is not there yet is made in another folder, without a word, so that nothing stays behind.

    Args:
        folder: parent of what is generated meanwhile.
    """
    token = _ELSEWHERE.set(Path(folder))
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


def made_once(
    folder: str | Path, *, stamp: str, sources: Sequence[str | Path], write: Callable[[Path], str], what: str
) -> str:
    """Return ``folder/<stamp>-<digest of the sources>``, after writing it if it is not there yet.

    The digest is over the files that generate the data, so a changed generator makes a new folder and never meets
    files of an older one. Several processes may ask at the same time; one of them writes.

    Args:
        folder: parent of the generated folder.
        stamp: the options that decide the content, in a form fit for a file name.
        sources: the generating source files.
        write: writes the content into the empty folder it is given and returns a few words that say what it wrote.
        what: name of the content, for the line that is printed when it is made.

    Raises:
        InputError: the folder cannot be written.
    """
    parent = Path(folder)
    digest = hashlib.blake2b(digest_size=4)
    for source in sources:
        digest.update(Path(source).read_bytes())
    target = parent / f"{stamp}-{digest.hexdigest()}"
    if target.is_dir():
        return str(target)
    elsewhere = _ELSEWHERE.get()
    if elsewhere is not None:
        parent = elsewhere
        target = parent / target.name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f".{target.name}.lock"):
            if target.is_dir():
                return str(target)
            for left_over in parent.glob(f".{target.name}.*/"):  # of a process that was killed
                shutil.rmtree(left_over)
            start = time.monotonic()
            beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
            try:
                summary = write(beside)
                beside.chmod(0o755)
                beside.rename(target)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
    except OSError as error:
        raise InputError(parent, f"cannot be written ({error.strerror or error})", "choose another folder") from error
    if elsewhere is None:
        print(f"made {what}: {summary} in {target} ({time.monotonic() - start:.0f} s)", flush=True)
    return str(target)
