"""Pairs of kidneys of the same or of opposite sides, for siamese pre-training."""

import logging
from collections.abc import Sequence

import numpy as np

from mtmed.data.draw import Box, checked_size
from mtmed.data.region import SIDES, Region, centred_start
from mtmed.data.volumes import Volume, Volumes
from mtmed.errors import InputError

__all__ = ["SidePair", "sided_volumes"]

logger = logging.getLogger(__name__)


class SidePair:
    """Two kidneys, of the same or of opposite sides (Dhere, Sivaswamy 2021, arXiv 2101.05456).

    ``"patch"`` is a kidney of the case itself, one of its sides at random. ``"partner"`` is of the same side with
    probability 1/2, else of the opposite one, each kidney of that side alike that other patients have; where there is
    none of the wanted kind, it is of the other kind. All examinations of a patient (one group of one data set) count as
    one, so that no kidney is paired with itself.

    The centre of each box is that of the kidney's bounding box: a larger kidney is cut, a smaller one has zeros around
    it. All that is not of the kidney is zero. The author's code pairs neighbours in a shuffled list of all kidneys, so
    that about half of the pairs are of one side; here half of them are by design.

    Args:
        region_size: extent of both boxes (H, W, D), voxels.
        constant: show the shape alone, 1 inside and 0 outside.
        mirror_right: flip right kidneys along the first axis, so that they look like left ones. This takes away what
            the task relies on: a control.
        different_patients: False allows the two kidneys of one patient as a pair of opposite sides.
        map: name of the map of sides: 1 left, 2 right.

    Raises:
        InputError: `region_size` is not 2 or 3 whole numbers >= 1.
    """

    def __init__(
        self,
        *,
        region_size: Sequence[int],
        constant: bool = False,
        mirror_right: bool = False,
        different_patients: bool = True,
        map: str = "side",
    ) -> None:
        self.region_size = checked_size("region_size", region_size)
        self.constant = constant
        self.mirror_right = mirror_right
        self.different_patients = different_patients
        self.map = map

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> dict[str, Box]:
        """Draw both boxes; see `mtmed.data.draw.Draw`.

        Raises:
            InputError: the case has no kidney, or no other one makes a pair with it (see `sided_volumes`).
        """
        volume = volumes[index]
        sides = [side for side in SIDES if volume.bounds(self.map, side)]
        if not sides:
            problem = f"has no side in the map {self.map!r}"
            raise InputError(volume.case.key, problem, "give the sampler only what sided_volumes keeps")
        side = sides[int(generator.integers(len(sides)))]
        opposite = next(other for other in SIDES if other != side)
        kinds = (side, opposite) if generator.random() < 0.5 else (opposite, side)
        for kind in kinds:
            partners = self._partners(volumes, index, kind, same=kind == side)
            if partners:
                partner = volumes[partners[int(generator.integers(len(partners)))]]
                return {"patch": self._box(volume, side), "partner": self._box(partner, kind)}
        raise InputError(volume.case.key, "has no partner for its kidney", "give the sampler what sided_volumes keeps")

    def _partners(self, volumes: Volumes, index: int, kind: int, *, same: bool) -> list[int]:
        candidates = volumes.having(self.map, kind)
        if not (same or self.different_patients):
            return candidates
        patient = volumes.patient(index)
        return [other for other in candidates if volumes.patient(other) != patient]

    def _box(self, volume: Volume, side: int) -> Box:
        mirrored = self.mirror_right and SIDES[side] == "right"
        region = Region(self.map, side, self.constant, mirrored)
        return Box(volume.index, centred_start(volume, self.region_size, region), self.region_size, region)


def sided_volumes(volumes: Volumes, *, map: str = "side", different_patients: bool = True) -> Volumes:
    """Keep the volumes that have a kidney at least, and require that pairs can be made of them.

    If all pairs would be of opposite sides, because no side has kidneys of two patients, this is logged as a warning.

    Args:
        volumes: the cohort.
        map: name of the map of sides: 1 left, 2 right.
        different_patients: whether a pair must be of two patients, see `SidePair`.

    Raises:
        InputError: there is no kidney, there are kidneys of one side only, or all are of one patient though pairs must
            be of two.
    """
    having = {side: volumes.having(map, side) for side in SIDES}
    patients = {side: {volumes.patient(index) for index in found} for side, found in having.items()}
    count = sum(len(found) for found in having.values())
    culprit = "kidney pairs"
    if not count:
        remarks = [remark for volume in volumes for remark in volume.remarks]
        cause = f" (first remark: {remarks[0]})" if remarks else ""
        problem = f"none of the {len(volumes)} cases has a kidney in the map {map!r}{cause}"
        raise InputError(culprit, problem, "check the labels and the transform that makes this map")
    for side, found in having.items():
        if len(found) == count:
            problem = f"all {count} kidneys found are {SIDES[side]} ones, pairs need both sides"
            raise InputError(culprit, problem, "add cases with the other side, or check the orientation of the files")
    if different_patients and len(set().union(*patients.values())) < 2:
        problem = f"all {count} kidneys found are of one patient, pairs need two"
        raise InputError(culprit, problem, "add patients, or set different_patients to false")
    if all(len(owners) < 2 for owners in patients.values()):
        logger.warning("%s: no side has kidneys of two patients, so all pairs are of opposite sides", culprit)
    return volumes.select(sorted({index for found in having.values() for index in found}))
