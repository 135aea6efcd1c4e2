"""What tells that a file, or one of the slices in a folder, is not what it was."""

import os
from typing import Any

__all__ = ["file_state"]


def file_state(path: str) -> list[Any]:
    """Absolute path, size and time stamp; of a folder of slices those of every file that lies directly in it.

    Hidden files, which some systems leave beside images, do not count.

    Raises:
        OSError: there is no such file or folder, or it cannot be read.
    """
    status = os.stat(path)
    if not os.path.isdir(path):
        return [os.path.abspath(path), status.st_size, status.st_mtime_ns]
    with os.scandir(path) as entries:
        files = sorted((entry.name, entry.stat()) for entry in entries if not entry.name.startswith("."))
    return [os.path.abspath(path), [[name, inside.st_size, inside.st_mtime_ns] for name, inside in files]]
