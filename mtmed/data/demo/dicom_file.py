"""An 8-bit grey image as a DICOM file with few fields: the same bytes on every run.

What GDCM, which reads these files, writes into a header depends on whether it has read a file before.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_dicom"]

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_WRITER = "2.25.142374089362912301964857261893345078101"  # of this module
_LONG = ("OB",)  # value representations with a length of four bytes


def write_dicom(
    path: str | Path, pixels: NDArray[np.uint8], *, pixel: float, bright_air: bool, fields: Mapping[str, str]
) -> None:
    """Write a secondary capture (DICOM PS3.10, explicit little endian, not compressed).

    Args:
        path: the file to write.
        pixels: shape (rows, columns), as they are stored.
        pixel: distance of neighbouring pixels in mm.
        bright_air: whether low values are white (MONOCHROME1) or black (MONOCHROME2).
        fields: further text of the header by tag and value representation: ``{"0008,0018 UI": "2.25.1"}``, which
            names the image and is needed.
    """
    rows, columns = pixels.shape
    meta = _fields(
        {
            "0002,0001 OB": b"\0\1",
            "0002,0002 UI": _SECONDARY_CAPTURE,
            "0002,0003 UI": fields["0008,0018 UI"],
            "0002,0010 UI": _EXPLICIT_LITTLE_ENDIAN,
            "0002,0012 UI": _WRITER,
        }
    )
    content: dict[str, str | bytes | int] = {
        "0008,0016 UI": _SECONDARY_CAPTURE,
        "0028,0002 US": 1,
        "0028,0004 CS": "MONOCHROME1" if bright_air else "MONOCHROME2",
        "0028,0010 US": rows,
        "0028,0011 US": columns,
        "0028,0030 DS": f"{pixel:g}\\{pixel:g}",
        "0028,0100 US": 8,
        "0028,0101 US": 8,
        "0028,0102 US": 7,
        "0028,0103 US": 0,
        "7fe0,0010 OB": pixels.tobytes(),
        **fields,
    }
    length = _field("0002,0000 UL", struct.pack("<I", len(meta)))
    Path(path).write_bytes(b"\0" * 128 + b"DICM" + length + meta + _fields(content))


def _fields(values: Mapping[str, str | bytes | int]) -> bytes:
    """Elements in the order of their tags."""
    return b"".join(_field(tag, values[tag]) for tag in sorted(values))


def _field(tag: str, value: str | bytes | int) -> bytes:
    """One element; values have an even number of bytes."""
    numbers, kind = tag.split()
    group, element = (int(number, 16) for number in numbers.split(","))
    if isinstance(value, int):
        value = struct.pack("<H", value)
    raw = value.encode("ascii") if isinstance(value, str) else value
    raw += (b" " if isinstance(value, str) and kind != "UI" else b"\0") * (len(raw) % 2)
    length = struct.pack("<HI", 0, len(raw)) if kind in _LONG else struct.pack("<H", len(raw))
    return struct.pack("<HH", group, element) + kind.encode("ascii") + length + raw
