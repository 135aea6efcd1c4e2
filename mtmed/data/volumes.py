"""Prepared volumes on disk, of which only the crop that is asked for is read.

All arrays of a case lie in one file that is mapped into memory when first used in a process; mapped pages belong to
the operating system's file cache, so memory does not grow with the cohort.
"""

import functools
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from mtmed.data.case import Case

__all__ = ["DATA_NAME", "RECORD_NAME", "ArrayPlace", "Record", "Volume", "Volumes", "open_arrays", "sampled_checksum"]

DATA_NAME, RECORD_NAME = "arrays.bin", "record.json"
_BLOCK, _BLOCKS = 16384, 16
_OPEN_FILES = 128  # each keeps one file descriptor; the usual limit is 1024 per process


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
        size: bytes of the data file.
        checksum: CRC-32 of evenly spaced blocks of the data file, see `sampled_checksum`.
    """

    arrays: dict[str, ArrayPlace]
    affine: list[list[float]]
    slope: list[float]
    intercept: list[float]
    classes: tuple[int, ...]
    bounds: dict[str, dict[int, list[int]]]
    remarks: tuple[str, ...]
    size: int
    checksum: int

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


def sampled_checksum(path: Path) -> int:
    """CRC-32 of 16 evenly spaced blocks of 16 KiB, first and last included: finds cuts and holes, at once."""
    size, crc = path.stat().st_size, 0
    with path.open("rb") as stream:
        for index in range(_BLOCKS):
            stream.seek(max(0, size - _BLOCK) * index // (_BLOCKS - 1))
            crc = zlib.crc32(stream.read(_BLOCK), crc)
    return crc


@functools.lru_cache(maxsize=_OPEN_FILES)
def open_arrays(path: Path) -> NDArray[np.uint8]:
    """Map a data file into memory, once per process; the least recently used maps are closed."""
    return np.memmap(path, np.uint8, mode="r")


class Volume:
    """One prepared case; its voxels stay on disk until they are asked for.

    Attributes:
        case: the row of the datalist.
        index: its place in the `Volumes` it was taken from.
        dataset: index of its data set in ``Volumes.datasets``.
        shape: (H, W, D), voxels.
        channels: number of image channels.
        affine: voxel index to RAS+ mm, 4 x 4 float64.
        classes: label values present, background included; empty for an unlabelled case.
        maps: names of its maps of whole numbers, ``label`` among them if it has one.
        remarks: what the transforms had to say of the case, for example why a region was left out.
    """

    def __init__(self, case: Case, folder: Path, record: Record, index: int, dataset: int) -> None:
        self.case, self.index, self.dataset = case, index, dataset
        self._record = record
        self._path = folder / DATA_NAME
        self.channels: int = record.arrays["image"].shape[0]
        self.shape: tuple[int, ...] = record.arrays["image"].shape[1:]
        self.classes = record.classes
        self.maps = tuple(record.bounds)
        self.remarks = record.remarks
        self.affine: NDArray[np.float64] = np.array(record.affine)

    def _array(self, name: str) -> NDArray[Any]:
        dtype, shape, offset = self._record.arrays[name]
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return open_arrays(self._path)[offset : offset + count].view(dtype).reshape(shape)

    @property
    def labelled(self) -> bool:
        """Whether the case has a label map."""
        return "label" in self._record.arrays

    @property
    def foreground(self) -> NDArray[np.int16]:
        """Voxels (n, 3) with any label > 0: all, or a fixed random subsample of 20 000, memory-mapped."""
        return self._array("foreground") if self.labelled else np.zeros((0, len(self.shape)), np.int16)

    def coordinates(self, label_value: int) -> NDArray[np.int16]:
        """Voxels (n, 3) of one class: all, or a fixed random subsample of 20 000, memory-mapped."""
        if label_value not in self.classes:
            return np.zeros((0, len(self.shape)), np.int16)
        return self._array(f"class {label_value}")

    def bounds(self, map: str, value: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Smallest box around all voxels of one value of the label or of a map.

        Args:
            map: ``label`` or the name of a map.
            value: the value, > 0.

        Returns:
            First voxel of the box and the voxel after its last one, each (H, W, D); None if no voxel has the value.
        """
        box = self._record.bounds.get(map, {}).get(value)
        if box is None:
            return None
        return tuple(box[: len(self.shape)]), tuple(box[len(self.shape) :])

    def crop(self, start: Sequence[int], size: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Read a box; only the pages under it are touched.

        Args:
            start: first voxel (H, W, D); may be negative.
            size: extent of the box, voxels; what lies outside the volume is zero.

        Returns:
            ``image`` float32 (C, h, w, d); if labelled ``label`` uint8 or int16 (1, h, w, d); where the store has them,
            ``distance`` float32 (1, h, w, d), in the store's unit, and maps like the label.
        """
        inside: list[Any] = []
        place: list[Any] = []
        for first, length, limit in zip(start, size, self.shape, strict=True):
            low, high = min(max(0, first), limit), max(min(limit, first + length), 0)
            high = max(low, high)
            inside.append(slice(low, high))
            place.append(slice(low - first, high - first) if high > low else slice(0, 0))
        full = all(s.stop - s.start == n for s, n in zip(inside, size, strict=True))
        make = np.empty if full else np.zeros
        image = make((self.channels, *size), np.float32)
        stored = self._array("image")
        for channel, (slope, intercept) in enumerate(zip(self._record.slope, self._record.intercept, strict=True)):
            view = image[(channel, *place)]
            np.multiply(stored[(channel, *inside)], np.float32(slope), out=view)
            view += np.float32(intercept)
        out: dict[str, NDArray[Any]] = {"image": image}
        for name in self._record.arrays:
            if name not in ("image", "foreground") and not name.startswith("class "):
                values = self._array(name)
                box = make((1, *size), np.float32 if name == "distance" else values.dtype)
                box[(0, *place)] = values[tuple(inside)]
                out[name] = box
        return out


class Volumes(Sequence[Volume]):
    """The prepared volumes of a cohort, in the order of its cases; pickles to a few hundred bytes per case.

    Attributes:
        datasets: names of the data sets, in order of first appearance.
    """

    def __init__(self, entries: Sequence[tuple[Case, Path, Record]]) -> None:
        self._entries = list(entries)
        self.datasets: tuple[str, ...] = tuple(dict.fromkeys(case.dataset for case, _, _ in entries))
        self._dataset_of = [self.datasets.index(case.dataset) for case, _, _ in entries]
        self._members: list[list[int]] = [[] for _ in self.datasets]
        for index, dataset in enumerate(self._dataset_of):
            self._members[dataset].append(index)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Volume: ...

    @overload
    def __getitem__(self, index: slice) -> "Volumes": ...

    def __getitem__(self, index: int | slice) -> "Volume | Volumes":
        if isinstance(index, slice):
            return Volumes(self._entries[index])
        case, folder, record = self._entries[index]
        position = range(len(self))[index]
        return Volume(case, folder, record, position, self._dataset_of[position])

    def select(self, indices: Sequence[int]) -> "Volumes":
        """Keep some volumes only, in the order of ``indices``."""
        return Volumes([self._entries[index] for index in indices])

    def having(self, map: str, value: int) -> list[int]:
        """Indices of the volumes in which a voxel of the label or of a map has the value, > 0."""
        return [index for index, (_, _, record) in enumerate(self._entries) if value in record.bounds.get(map, {})]

    def patient(self, index: int) -> tuple[str, str]:
        """Data set and group of a volume: the same for all examinations of one patient."""
        case = self._entries[index][0]
        return case.dataset, case.group

    def members(self, dataset: int) -> Sequence[int]:
        """Indices of the volumes of one data set, given by its index in ``datasets``."""
        return self._members[dataset]

    def describe(self) -> dict[str, Any]:
        """Summarise for a log: cases per data set, label values and in how many cases, size on disk (bytes)."""
        return {
            "cases": len(self),
            "datasets": {name: len(self._members[index]) for index, name in enumerate(self.datasets)},
            "unlabelled": sum("label" not in record.arrays for _, _, record in self._entries),
            "classes": dict(sorted(Counter(c for _, _, record in self._entries for c in record.classes).items())),
            "bytes": sum(record.size for _, _, record in self._entries),
        }
