"""Small X-rays as DICOM files, for tests."""

from pathlib import Path
from typing import Any

import SimpleITK
from numpy.typing import NDArray

__all__ = ["change_field", "write_x_ray"]

_STORAGE = {"CR": "1.2.840.10008.5.1.4.1.1.1", "DX": "1.2.840.10008.5.1.4.1.1.1.1", "CT": "1.2.840.10008.5.1.4.1.1.2"}


def write_x_ray(
    path: Path,
    pixels: NDArray[Any],
    *,
    modality: str = "CR",
    spacing: tuple[float, float] = (0.2, 0.3),
    volume: bool = False,
    **header: str,
) -> Path:
    """Write an image (rows, columns), in colours (rows, columns, 3), or a ``volume`` (frames, rows, columns).

    ``spacing`` is that of columns and rows, mm. Further fields of the header are given as ``x0010_0020="value"``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(pixels, isVector=pixels.ndim == 3 and not volume)
    image.SetSpacing((*spacing, 1.0) if volume else spacing)
    image.SetMetaData("0008|0060", modality)
    if modality in _STORAGE:
        image.SetMetaData("0008|0016", _STORAGE[modality])
    for name, value in header.items():
        image.SetMetaData(name.removeprefix("x").replace("_", "|"), value)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.Execute(image)
    return path


def change_field(path: Path, field: str, old: bytes, new: bytes) -> None:
    """Replace the value of a field (``"0028|0004"``) of a file without explicit types by one of the same length."""
    assert len(old) == len(new)
    group, element = (int(part, 16).to_bytes(2, "little") for part in field.split("|"))
    start = group + element + len(old).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(start + old) == 1, field
    path.write_bytes(content.replace(start + old, start + new))
