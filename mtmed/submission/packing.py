"""What the submissions share: finding the predictions, checking their values, writing a zip that repeats."""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder

if TYPE_CHECKING:
    from mtmed.transforms.nifti import NiftiVolume

__all__ = ["label_map_bytes", "prediction_files", "require_new_zip", "write_zip"]

_SUFFIXES = (".nii", ".nii.gz")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows; the same predictions always give the same bytes


def require_new_zip(output: str | Path) -> Path:
    """Require that a file is called ``.zip`` and is not there yet.

    Raises:
        InputError: otherwise.
    """
    output = Path(output)
    if output.suffix != ".zip":
        raise InputError(output, "does not end in .zip", "name a zip file")
    if output.exists():
        raise InputError(output, "exists already", "remove it or name another file")
    return output


def prediction_files(predictions: str | Path | Sequence[str | Path]) -> list[Path]:
    """NIfTI files of folders and files, in the order given; those within a folder by name.

    Raises:
        InputError: if a path does not exist, or there is no NIfTI file.
    """
    given = [predictions] if isinstance(predictions, str | Path) else predictions
    found = []
    for one in map(Path, given):
        if not one.exists():
            raise InputError(one, "no such file or folder", "pass the folder of the predicted label maps")
        within = sorted(one.iterdir()) if one.is_dir() else [one]
        found += [path for path in within if path.name.endswith(_SUFFIXES) and not path.name.startswith(".")]
    if not found:
        names = ", ".join(map(str, given)) or "predictions"
        raise InputError(names, "has no .nii or .nii.gz file", "predict the test scans first")
    return found


def label_map_bytes(path: Path, *, highest: int, require: Callable[["NiftiVolume"], None]) -> bytes:
    """A label map as the bytes of a plain NIfTI file of 8 bits with the prediction's header.

    Args:
        path: the prediction.
        highest: highest label value; whole numbers from 0 are allowed.
        require: raises `InputError` unless the volume is as the challenge wants it.

    Raises:
        InputError: if the file is damaged, or holds other values.
    """
    import nibabel as nib
    import numpy as np

    from mtmed.transforms.nifti import read_nifti

    volume = read_nifti(path)
    require(volume)
    data = volume.data
    valid = data == 0
    for value in range(1, highest + 1):
        valid |= data == value
    if not valid.all():
        some = ", ".join(f"{value:g}" for value in np.unique(data)[: highest + 3])
        allowed = f"{', '.join(map(str, range(highest)))} and {highest}"
        raise InputError(path, f"holds the values {some} ..., allowed are {allowed}", "pass the label maps")
    source: Any = nib.load(path)
    header = source.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    plain: bytes = nib.Nifti1Image(data.astype(np.uint8), None, header).to_bytes()
    return plain


def write_zip(output: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write names and contents to a zip without folders, which appears only when it is whole.

    Raises:
        InputError: if it cannot be written.
    """
    require_writable_folder(output.parent)
    with atomic_file(output) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
