"""Whether a DICOM file holds the pixels that its header claims.

GDCM does not ask: where pixel data are shorter than rows, columns and bits say, it gives whatever was in memory.
"""

import re
from pathlib import Path

from mtmed.errors import InputError

__all__ = ["check_pixel_data"]

_SYNTAX = re.compile(rb"\x02\x00\x10\x00UI..([\d.]+)", re.DOTALL)  # (0002,0010), in the first part of a file
_PIXEL_DATA = {"little": b"\xe0\x7f\x10\x00", "big": b"\x7f\xe0\x00\x10"}  # (7fe0,0010)
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_IMPLICIT, _EXPLICIT, _BIG = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_UNDEFINED = 0xFFFFFFFF


def check_pixel_data(path: Path, needed: int) -> None:
    """Require that the pixel data of a DICOM file are as long as its header says.

    Compressed data cannot be told so by their length; they must reach the mark of their end. Of a data set that is
    deflated as a whole nothing is checked.

    Args:
        path: the file.
        needed: bytes of all pixels, uncompressed.

    Raises:
        InputError: they are not.
    """
    content = path.read_bytes()
    match = _SYNTAX.search(content, 0, 4096)
    syntax = match.group(1) if match else _IMPLICIT
    if syntax == _DEFLATED:
        return
    lengths = _lengths(content, "big" if syntax == _BIG else "little")
    if syntax in (_IMPLICIT, _EXPLICIT, _BIG):
        found = max((length for _, length in lengths if length != _UNDEFINED), default=0)
        if found < needed:
            problem = f"has {found} bytes of pixels, its header claims {needed}"
            raise InputError(path, problem, "copy or download the file again")
        return
    starts = [start for start, length in lengths if length == _UNDEFINED]
    if not starts or content.find(_SEQUENCE_END, starts[0]) < 0:
        raise InputError(path, "has compressed pixels that end early", "copy or download the file again")


def _lengths(content: bytes, order: str) -> list[tuple[int, int]]:
    """Place and length of whatever looks as an element of pixel data that the file is long enough for."""
    found = []
    for match in re.finditer(re.escape(_PIXEL_DATA[order]), content):
        start = match.end()
        if content[start : start + 2] in (b"OW", b"OB", b"UN"):
            start += 4
        length = int.from_bytes(content[start : start + 4], "big" if order == "big" else "little")
        if length == _UNDEFINED or start + 4 + length <= len(content):
            found.append((start + 4, length))
    return found
