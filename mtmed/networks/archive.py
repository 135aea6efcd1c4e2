"""Whether a file of ``torch.save`` still holds the bytes that were written.

Such a file is a zip archive with a CRC-32 of each record, which ``torch.load`` does not look at: with one bit flipped
it reads another weight and says nothing. Records are stored as they are, so a compressed one, which may unpack to far
more than its file, was not written by torch.
"""

import zipfile
import zlib
from pathlib import Path

from mtmed.errors import InputError

__all__ = ["verify_archive"]

_REMEDY = "copy it again or train again"


def verify_archive(path: Path, *, remedy: str = _REMEDY) -> None:
    """Read every record of an archive and compare its checksum, at about half of what loading it costs.

    Bytes outside the records, such as their padding, hold nothing and are not looked at.

    Args:
        path: file written by ``torch.save``.
        remedy: what the user can do.

    Raises:
        InputError: if the file is no archive, a record is compressed, or its bytes are not those that were written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise InputError(path, "is damaged or not a weights file (a record is compressed)", remedy)
            damaged = archive.testzip()
    except InputError:
        raise
    # what Python's reader of archives stumbles on where a header is damaged
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, LookupError) as error:
        raise InputError(path, "is damaged or not a weights file", remedy) from error
    if damaged is not None:
        record = damaged.partition("/")[2]
        raise InputError(path, f"is damaged: the checksum of its record {record} does not match", remedy)
