"""Which files of a folder are DICOM, and whether they are the slices of a series or X-rays."""

from pathlib import Path

from mtmed.errors import InputError
from mtmed.transforms.dicom_file import DicomFile

__all__ = ["dicom_files", "has_dicom_name", "is_dicom_series"]

_ENDINGS = (".dcm", ".dicom", ".ima")
_INDEX = "dicomdir"  # a table of contents
_MARK = b"DICM"
_MARK_AT = 128  # bytes from the start of a file


def dicom_files(folder: str | Path) -> list[Path]:
    """DICOM files that lie directly in a folder, by their names.

    These are the files that end in ``.dcm``, ``.dicom`` or ``.ima``; and, since scanners and archives often write
    slices without an ending or under numbers, all files without one if one of them carries DICOM's mark, so that none
    that is damaged is passed over. Hidden files and ``DICOMDIR`` do not count, files with other endings neither.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return []
    files = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.name.lower() != _INDEX and path.is_file()
    ]
    bare = {path for path in files if _has_no_ending(path)}
    if not any(map(_is_marked, sorted(bare))):
        bare = set()
    return [path for path in files if path.name.lower().endswith(_ENDINGS) or path in bare]


def has_dicom_name(path: Path) -> bool:
    """Whether a file may be DICOM by its name: by its ending, or because it has none or a number for one."""
    return path.name.lower().endswith(_ENDINGS) or _has_no_ending(path)


def is_dicom_series(folder: str | Path) -> bool:
    """Whether the first file in a folder whose DICOM header can be read is a slice of a series, and no X-ray."""
    for path in dicom_files(folder):
        try:
            return DicomFile(path, ()).is_slice
        except InputError:
            continue
    return False


def _has_no_ending(path: Path) -> bool:
    ending = path.suffix[1:]
    return not ending or ending.isdecimal()


def _is_marked(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(_MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except OSError:
        return False
