"""Separate batches for segmentation and for an auxiliary task."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mtmed.data.distance import voxel_size
from mtmed.data.draw import Box, Draw
from mtmed.data.volumes import Volume, Volumes
from mtmed.errors import InputError

__all__ = ["SeparateBatches"]


class _Pool(NamedTuple):
    """Some of the volumes, and their numbers among all."""

    volumes: Volumes
    numbers: tuple[int, ...]


class SeparateBatches:
    """In each sample one box for segmentation and another one for the auxiliary task, of volumes of their own.

    ``"patch"`` is of a labelled volume, by its turn: a pass counts the items of `segmentation` over the labelled
    volumes, and the patches are those that `segmentation` alone would draw. ``"auxiliary"`` is of any item of
    `auxiliary` over its pool, each alike: the labelled volumes, or all. ``"partner"`` shows the place of
    ``"auxiliary"`` again, for contrast: a slice is the same slice, since the geometry of views differs by role; a 3D
    box lies anywhere where its centre is at most `distance_mm` from the other's.

    Without `segmentation` there are only the auxiliary roles, by their turn: a pass counts the items of the pool.

    Source of separate batches in each step, and of the 50 mm: the first author's later code for Hu, Qin 2024 (arXiv
    2402.07119); that the boxes have centres each alike is our reading.

    Args:
        segmentation: draw of the role ``"patch"``; None to pre-train.
        auxiliary: draw whose ``"patch"`` becomes ``"auxiliary"``; None for segmentation alone.
        partner: add the role ``"partner"``.
        labelled_only: take auxiliary boxes of labelled volumes only.
        maps: give auxiliary boxes labels and maps; False gives images only, so that labelled and unlabelled volumes
            make one batch.
        distance_mm: between the centres of ``"auxiliary"`` and ``"partner"``, mm.

    Raises:
        ValueError: there is no draw, or one makes groups of samples.
        InputError: `distance_mm` is negative.
    """

    def __init__(
        self,
        *,
        segmentation: Draw | None,
        auxiliary: Draw | None,
        partner: bool = False,
        labelled_only: bool = True,
        maps: bool = True,
        distance_mm: float = 50.0,
    ) -> None:
        for name, draw in (("segmentation", segmentation), ("auxiliary", auxiliary)):
            if hasattr(draw, "group_size"):
                raise ValueError(f"{name} is a {type(draw).__name__}, which makes groups; draw samples one by one.")
        if segmentation is None and auxiliary is None:
            raise ValueError("segmentation and auxiliary are None; give one of them a draw.")
        if not 0 <= distance_mm < float("inf"):
            raise InputError("distance_mm", f"is {distance_mm}", "give a number from 0, for example 50")
        self.segmentation, self.auxiliary = segmentation, auxiliary
        self.partner = partner
        self.labelled_only = labelled_only
        self.maps = maps
        self.distance_mm = float(distance_mm)
        self._split: tuple[Volumes, _Pool, _Pool] | None = None

    def count(self, volumes: Volumes) -> int:
        """Items per pass: of `segmentation`, or of `auxiliary` where that is None."""
        labelled, pool = self._pools(volumes)
        if self.segmentation is not None:
            return _items(self.segmentation, labelled.volumes)
        assert self.auxiliary is not None
        return _items(self.auxiliary, pool.volumes)

    def check(self, volumes: Volumes) -> None:
        """Require volumes that each draw can draw from; see `mtmed.data.draw.Draw`.

        Raises:
            InputError: no volume is labelled though some must be, or auxiliary samples of labelled and unlabelled
                volumes would have labels.
        """
        labelled, pool = self._pools(volumes)
        if not labelled.numbers and (self.segmentation is not None or self.labelled_only):
            problem = f"none of the {len(volumes)} cases has a label"
            raise InputError("volumes", problem, "add labelled cases, or pre-train on unlabelled ones")
        if self.auxiliary is not None and self.maps and 0 < len(labelled.numbers) < len(pool.numbers):
            first = next(volume for volume in pool.volumes if not _labelled(volume))
            problem = f"has no label, and the auxiliary task is to read labels ({len(labelled.numbers)} cases have one)"
            remedy = "leave unlabelled cases out, or choose a task without labels"
            raise InputError(first.case.key, problem, remedy)
        for draw, part in ((self.segmentation, labelled), (self.auxiliary, pool)):
            if draw is not None and hasattr(draw, "check"):
                draw.check(part.volumes)

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> dict[str, Box]:
        """Draw the boxes; see `mtmed.data.draw.Draw`."""
        labelled, pool = self._pools(volumes)
        boxes: dict[str, Box] = {}
        if self.segmentation is not None:
            # first, so that an auxiliary task does not change what segmentation sees
            boxes["patch"] = _box(self.segmentation, labelled, index, generator)
        if self.auxiliary is None:
            return boxes
        if self.segmentation is not None:
            index = int(generator.integers(_items(self.auxiliary, pool.volumes)))
        auxiliary = _box(self.auxiliary, pool, index, generator)._replace(image_only=not self.maps)
        boxes["auxiliary"] = auxiliary
        if self.partner:
            boxes["partner"] = self._second_look(volumes[auxiliary.volume], auxiliary, generator)
        return boxes

    def _pools(self, volumes: Volumes) -> tuple[_Pool, _Pool]:
        """The labelled volumes, and those of the auxiliary task."""
        if self._split is None or self._split[0] is not volumes:
            numbers = tuple(volume.index for volume in volumes if _labelled(volume))
            labelled = _Pool(volumes.select(numbers), numbers)
            pool = labelled if self.labelled_only else _Pool(volumes, tuple(range(len(volumes))))
            self._split = volumes, labelled, pool
        return self._split[1:]

    def _second_look(self, volume: Volume, box: Box, generator: np.random.Generator) -> Box:
        if box.slice_offsets is not None:
            return box
        start = np.array(box.start)
        room = np.maximum(np.array(volume.shape) - box.size, 0)
        spacing = np.array(voxel_size(volume.affine, "mm"))[-len(start) :]
        reach = np.floor(self.distance_mm / spacing).astype(int)
        # a volume that is smaller than the box stays centred in it
        low = np.where(room > 0, np.maximum(start - reach, 0), start)
        high = np.where(room > 0, np.minimum(start + reach, room), start)
        while True:  # about half of the box of these places is near enough
            place = generator.integers(low, high + 1)
            if np.linalg.norm((place - start) * spacing) <= self.distance_mm:
                return box._replace(start=tuple(place.tolist()))


def _labelled(volume: Volume) -> bool:
    return volume.case.label is not None


def _items(draw: Draw, volumes: Volumes) -> int:
    return int(draw.count(volumes)) if hasattr(draw, "count") else len(volumes)


def _box(draw: Draw, pool: _Pool, index: int, generator: np.random.Generator) -> Box:
    """The draw's patch, its volume numbered among all."""
    boxes: Mapping[str, Box] = draw(pool.volumes, index, generator)
    return boxes["patch"]._replace(volume=pool.numbers[boxes["patch"].volume])
