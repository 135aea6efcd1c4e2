"""One training at a time in a folder."""

import fcntl
import logging
import os
import socket
from pathlib import Path
from typing import IO

from mtmed.errors import InputError

__all__ = ["lock_folder", "unlock_folder"]

logger = logging.getLogger(__name__)

_NAME = ".run.lock"
_held: list[IO[str]] = []


def lock_folder(folder: Path) -> None:
    """Keep trainings of other processes off a folder, until `unlock_folder`, another call or the end of this process.

    The lock is one of the operating system on the file ``.run.lock``, which stays. Loader workers do not inherit it, as
    they would that of `filelock`, so that it ends with this process however that ends. Where the file system has no
    locks, that is logged and the training goes on.

    Args:
        folder: of the run; must be there.

    Raises:
        InputError: if another process trains there.
        OSError: if the file cannot be written.
    """
    unlock_folder()
    file = open(folder / _NAME, "a+")  # noqa: SIM115
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        who = file.read().strip() or "another process"
        file.close()
        problem = f"{folder} is in use by {who}"
        raise InputError("output_dir", problem, "wait until it has ended, or use another --output_dir") from None
    except OSError as error:
        logger.warning("%s cannot be locked (%s); start no second training there", folder, error.strerror)
    _held.append(file)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def unlock_folder() -> None:
    """Let go of the folder that this process has locked, if it has."""
    while _held:
        _held.pop().close()
