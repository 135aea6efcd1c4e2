"""Prepared volumes on disk, of which only the crop that is asked for is read.

All arrays of a case lie in one file that is mapped into memory when first used in a process; mapped pages belong to
the operating system's file cache, so memory does not grow with the cohort.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mtmed.data.case import Case
from mtmed.data.record import ArrayPlace, Record

__all__ = ["DATA_NAME", "RECORD_NAME", "ArrayPlace", "Record", "Volume", "Volumes", "open_arrays"]

DATA_NAME, RECORD_NAME = "arrays.bin", "record.json"
# Each map keeps one file descriptor, and a process may usually have 1024: half is left for all else. A forked worker
# inherits the maps together with this cache, so that it has no more of them either.
_OPEN_FILES = 512


@functools.lru_cache(maxsize=_OPEN_FILES)
def open_arrays(folder: Path) -> NDArray[np.uint8]:
    """Map the data file of an entry into memory, once per process; the least recently used maps are closed."""
    return np.memmap(folder / DATA_NAME, np.uint8, mode="r")


class Volume:
    """One prepared case; its voxels stay on disk until they are asked for.

    Attributes:
        case: the row of the datalist.
        index: its place in the `Volumes` it was taken from.
        dataset: index of its data set in ``Volumes.datasets``.
        shape: (H, W, D), voxels.
        channels: number of image channels.
        classes: label values present, background included; empty for an unlabelled case.
        maps: names of its maps of whole numbers, ``label`` among them if it has one.
        remarks: what the transforms had to say of the case, for example why a region was left out.
        facts: numbers that the transforms found of the case, for example those of
            `mtmed.transforms.ImageFactsd`.
    """

    def __init__(self, case: Case, folder: Path, record: Record, index: int, dataset: int) -> None:
        self.case, self.index, self.dataset = case, index, dataset
        self._record, self._folder = record, folder
        self.channels: int = record.arrays["image"].shape[0]
        self.shape: tuple[int, ...] = record.arrays["image"].shape[1:]
        self.classes = record.classes
        self.maps = tuple(record.bounds)
        self.remarks = record.remarks
        self.facts: Mapping[str, float] = record.facts

    @functools.cached_property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index to RAS+ mm, 4 x 4."""
        return np.array(self._record.affine, np.float64)

    def _array(self, name: str) -> NDArray[Any]:
        dtype, shape, offset = self._record.arrays[name]
        return np.ndarray(shape, dtype, open_arrays(self._folder), offset)

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
        return {"image": self.crop_image(start, size), **self.crop_maps(start, size)}

    def crop_maps(self, start: Sequence[int], size: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Read a box of all but the image; see `crop`."""
        inside, place, full = self._inside(start, size)
        make = np.empty if full else np.zeros
        out: dict[str, NDArray[Any]] = {}
        for name in self._record.voxel_arrays:
            values = self._array(name)
            box = make((1, *size), np.float32 if name == "distance" else values.dtype)
            box[(0, *place)] = values[inside]
            out[name] = box
        return out

    def crop_image(
        self, start: Sequence[int], size: Sequence[int], *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Read a box of the image alone, float32 (C, h, w, d), into an array if one is given; see `crop`."""
        inside, place, full = self._inside(start, size)
        image: NDArray[np.float32] = np.empty((self.channels, *size), np.float32) if out is None else out
        if not full:
            image[:] = 0
        stored = self._array("image")
        for channel, (slope, intercept) in enumerate(zip(self._record.slope, self._record.intercept, strict=True)):
            view = image[(channel, *place)]
            np.copyto(view, stored[(channel, *inside)])
            view *= np.float32(slope)
            view += np.float32(intercept)
        return image

    def _inside(self, start: Sequence[int], size: Sequence[int]) -> tuple[tuple[Any, ...], tuple[Any, ...], bool]:
        """Where a box lies in the volume, the same in the box, and whether no part of it sticks out."""
        inside, place = [], []
        for first, length, limit in zip(start, size, self.shape, strict=True):
            low, high = min(max(0, first), limit), max(min(limit, first + length), 0)
            high = max(low, high)
            inside.append(slice(low, high))
            place.append(slice(low - first, high - first) if high > low else slice(0, 0))
        full = all(s.stop - s.start == n for s, n in zip(inside, size, strict=True))
        return tuple(inside), tuple(place), full


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

    def having(self, map: str, value: int | None = None) -> list[int]:
        """Indices of the volumes in which a voxel of the label or of a map has the value, > 0; None: any such value."""
        found = [record.bounds.get(map, {}) for _, _, record in self._entries]
        return [index for index, values in enumerate(found) if (values if value is None else value in values)]

    @functools.cached_property
    def slice_ends(self) -> NDArray[np.int64]:
        """Number of slices, which lie along the first axis, of each volume and all before it."""
        return np.cumsum([record.arrays["image"].shape[1] for _, _, record in self._entries], dtype=np.int64)

    @functools.cached_property
    def patients(self) -> Sequence[Sequence[int]]:
        """Indices of the volumes of each patient, in order of first appearance."""
        members: dict[tuple[str, str], list[int]] = {}
        for index in range(len(self)):
            members.setdefault(self.patient(index), []).append(index)
        return list(members.values())

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
