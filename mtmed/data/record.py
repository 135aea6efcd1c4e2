"""What is written beside the voxels of a prepared volume, so that much is known of it without reading them."""

import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

_fast: ModuleType = zlib
with suppress(ImportError):
    from isal import isal_zlib as _fast

__all__ = ["ArrayPlace", "Record", "file_checksum"]

_BLOCK = 2**20


class ArrayPlace(NamedTuple):
    """Where an array lies in the file of its case."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Record:
    """What is known of a stored volume without reading its voxels.

    Attributes:
        arrays: place of ``image``, ``label``, ``distance``, the maps, ``foreground`` and ``class <value>``.
        affine: voxel index to RAS+ mm after preprocessing, nested lists.
        slope: per channel, intensity = slope * stored + intercept.
        intercept: per channel.
        classes: label values present.
        bounds: of ``label`` and each map, for each value > 0 the smallest box around its voxels: first voxel, then
            the voxel after the last one.
        remarks: what the transforms had to say of the case.
        facts: numbers that the transforms found of the case, for example the size of a pixel in its file.
        size: bytes of the data file.
        checksum: CRC-32 of the data file, see `file_checksum`.
    """

    arrays: dict[str, ArrayPlace]
    affine: list[list[float]]
    slope: list[float]
    intercept: list[float]
    classes: tuple[int, ...]
    bounds: dict[str, dict[int, list[int]]]
    remarks: tuple[str, ...]
    facts: dict[str, float]
    size: int
    checksum: int

    @property
    def voxel_arrays(self) -> tuple[str, ...]:
        """Names of the arrays on the image's grid: label, distance and maps."""
        tables = ("image", "foreground")
        return tuple(name for name in self.arrays if name not in tables and not name.startswith("class "))

    def text(self) -> str:
        """Serialise as JSON with its own checksum."""
        body = json.dumps(self.__dict__, sort_keys=True)
        return json.dumps({"record": body, "checksum": zlib.crc32(body.encode())})

    @classmethod
    def parse(cls, text: str) -> "Record":
        """Read what `text` wrote; raises ValueError, KeyError or TypeError if it is damaged."""
        outer = json.loads(text)
        if zlib.crc32(outer["record"].encode()) != outer["checksum"]:
            raise ValueError("checksum of the record")
        fields = json.loads(outer["record"])
        fields["arrays"] = {k: ArrayPlace(d, tuple(s), o) for k, (d, s, o) in fields["arrays"].items()}
        fields["classes"] = tuple(fields["classes"])
        # JSON knows no numbers as keys
        fields["bounds"] = {k: {int(v): box for v, box in boxes.items()} for k, boxes in fields["bounds"].items()}
        fields["remarks"] = tuple(fields["remarks"])
        return cls(**fields)


def file_checksum(path: Path) -> int:
    """CRC-32 of all bytes of a file; with ISA-L, where it is installed, at a fraction of what reading them costs."""
    crc = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            crc = _fast.crc32(block, crc)
    return crc
