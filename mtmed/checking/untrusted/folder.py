"""The files of a bundle's folder: its configs, weights, and what could be executed."""

import os
from collections.abc import Iterator
from pathlib import Path

from mtmed.checking.untrusted.finding import Finding
from mtmed.checking.untrusted.pickled import weights_faults
from mtmed.errors import InputError

__all__ = ["file_findings", "files_of"]

_CODE = {
    ".py": "Python code, which a config may import",
    ".pyc": "compiled Python code",
    ".pth": "",
    **dict.fromkeys((".sh", ".bash", ".bat", ".cmd", ".ps1"), "a script"),
    **dict.fromkeys((".so", ".dll", ".dylib", ".exe", ".pyd"), "compiled code"),
    ".ipynb": "a notebook with code",
}
_STARTS = {b"\x7fELF": "compiled code", b"MZ": "compiled code", b"\xcf\xfa\xed\xfe": "compiled code", b"#!": "a script"}
_MOST_FILES = 100_000


def files_of(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, in order; links are not followed.

    Raises:
        InputError: if there are more than 100000.
    """
    files: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        links = [Path(root, name) for name in folders if Path(root, name).is_symlink()]
        files += [*links, *(Path(root, name) for name in sorted(names))]
        if len(files) > _MOST_FILES:
            raise InputError(folder, f"holds more than {_MOST_FILES} files", "name the bundle's folder")
    return files


def file_findings(path: Path, folder: Path) -> Iterator[Finding]:
    """What is suspicious of a file itself: a link out of the folder, code, or weights that would run code.

    Args:
        path: the file.
        folder: the bundle's folder.
    """
    file = str(path)
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        yield Finding(file, "", "file", path.name, "is a link out of the folder")
        return
    if not path.is_file():
        return
    try:
        with path.open("rb") as opened:
            start = opened.read(8)
        weights = weights_faults(path)
    except OSError as error:
        yield Finding(file, "", "file", path.name, f"cannot be read ({error.strerror})")
        return
    if weights is not None:
        kind, faults = weights
        yield from (Finding(file, "", "weights", kind, fault) for fault in faults or [""])
        return
    code = _CODE.get(path.suffix.lower()) or next(
        (what for magic, what in _STARTS.items() if start.startswith(magic)), ""
    )
    if code:
        yield Finding(file, "", "file", path.name, f"is {code}")
    elif path.stat().st_mode & 0o111:
        yield Finding(file, "", "file", path.name, "may be executed")
