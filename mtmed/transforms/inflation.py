"""How much a small file may unpack to, before anything is unpacked."""

import re
import zlib
from pathlib import Path

from mtmed.errors import InputError

__all__ = ["require_bounded_dicom", "require_pixel_count"]

_MOST_PIXELS = 2**27  # of one plane: 11 585 x 11 585, four times the largest mammograms
_MOST_DICOM = 2**28  # bytes of one file of one image
# transfer syntax (0002,0010)
_DEFLATED = re.compile(rb"\x02\x00\x10\x00UI..1\.2\.840\.10008\.1\.2\.1\.99(?![.\d])", re.DOTALL)
_GROUP_LENGTH = re.compile(rb"\A.{128}DICM\x02\x00\x00\x00UL\x04\x00(.{4})", re.DOTALL)
_REMEDY = "leave it out, or save it again without compression"
_BLOCK = 2**20


def require_pixel_count(path: Path, columns: int, rows: int) -> None:
    """Require that an image has no more pixels than an X-ray or a slice may have: 2^27.

    Raises:
        InputError: it has more.
    """
    if columns * rows > _MOST_PIXELS:
        problem = f"its header claims {columns}x{rows} pixels, the most is {_MOST_PIXELS}"
        raise InputError(path, problem, "crop it, or leave it out")


def require_bounded_dicom(path: Path) -> None:
    """Require that a DICOM data set that is deflated as a whole unpacks to 256 MiB at most; GDCM sets no limit.

    Raises:
        InputError: it unpacks to more, is damaged, or does not say where it begins.
    """
    with path.open("rb") as stream:
        start = stream.read(4096)
        if not _DEFLATED.search(start):
            return
        length = _GROUP_LENGTH.match(start)
        if length is None:
            raise InputError(path, "is deflated and does not say where its data begin", _REMEDY)
        stream.seek(144 + int.from_bytes(length[1], "little"))
        inflater, unpacked = zlib.decompressobj(-15), 0
        try:
            while (block := inflater.unconsumed_tail or stream.read(_BLOCK)) and not inflater.eof:
                unpacked += len(inflater.decompress(block, _BLOCK))
                if unpacked > _MOST_DICOM:
                    raise InputError(path, f"unpacks to more than {_MOST_DICOM // 2**20} MiB", _REMEDY)
        except zlib.error as error:
            raise InputError(path, f"deflated data are damaged ({error})", "copy or download the file again") from error
