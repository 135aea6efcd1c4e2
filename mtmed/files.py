"""Files that are there as a whole or not at all, and folders that can be written."""

import contextlib
import glob
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mtmed.errors import DISK_FULL, InputError

__all__ = ["atomic_file", "remove_fragments", "require_writable_folder", "write_error"]

_REMEDY = "free space or choose another output_dir, then run again"
_FRAGMENT = re.compile(r"\..+\.\d+\.tmp")


@contextlib.contextmanager
def atomic_file(path: str | Path, *, remedy: str = _REMEDY) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when it is whole: temporary name, flushed, renamed.

    The temporary name is ``.<name>.<process>.tmp`` in the same folder.

    Args:
        path: file to write; its folder must be there.
        remedy: what the user can do if it cannot be written.

    Raises:
        InputError: if it cannot be written, for example on a full disk; no fragment stays, an older file does.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise write_error(path, error, remedy=remedy) from error
        raise


def remove_fragments(folder: str | Path, *, name: str | None = None) -> None:
    """Remove what processes that were killed left of files that they were writing with `atomic_file`.

    To be called where no other process writes these files now, for example under a lock.

    Args:
        folder: where they were written, which need not be there; folders in it are not searched.
        name: of the file; None for all.
    """
    written = "*" if name is None else glob.escape(name)
    for fragment in Path(folder).glob(f".{written}.*.tmp"):
        if _FRAGMENT.fullmatch(fragment.name):
            with contextlib.suppress(OSError):
                fragment.unlink()


def write_error(path: str | Path, error: BaseException, *, remedy: str = _REMEDY) -> InputError:
    """What to tell the user about a failed write; says so in plain words if the disk is full.

    Args:
        path: file that cannot be written.
        error: what happened; its causes are looked at too.
        remedy: what the user can do.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            return InputError(path, "no space left on the disk", remedy)
        cause = cause.__cause__ or cause.__context__
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputError(path, f"cannot be written ({reason})", remedy)


def require_writable_folder(folder: str | Path, *, option: str | None = None) -> Path:
    """Make a folder if needed and try that a file can be written in it.

    Args:
        folder: the folder.
        option: the bundle's option that names it, for the message.

    Raises:
        InputError: if it cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        refusal = write_error(folder, error, remedy="choose another output_dir")
        if option is not None:
            problem = f"{folder} {refusal.problem}"
            refusal = InputError(option, problem, f"name a folder that you may write to with --{option}")
        raise refusal from error
    return folder
