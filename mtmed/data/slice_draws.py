"""Slices of volumes as 2D samples: each one, or neighbouring pairs of one scan or patient.

Slices lie along the first axis, as after Orientationd with axcodes "SPL".
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from mtmed.data.draw import Box, checked_probability
from mtmed.data.volumes import Volume, Volumes
from mtmed.errors import InputError

__all__ = ["AdjacentSlices", "EverySlice", "PairGroup", "check_pairs"]

PairGroup = Literal["scan", "patient"]
"""Whether the pairs of a group are of one scan, or may be of any scan of one patient."""

_NAMED = 5


class EverySlice:
    """Every slice of every volume once per pass, in random order.

    Args:
        slice_offsets: which slices become channels, counted from the drawn one: [0] itself, [0, 0, 0] itself three
            times, [-2, 0, 2] with neighbours two slices away. Beyond the first and the last slice these are repeated.
        foreground_probability: how often the slice whose turn it is gives way to one of its volume that shows labelled
            foreground, chosen as `mtmed.data.draw.RandomCrop` does: one of the volume's foreground values, each alike,
            then one voxel of it, whose slice is taken. In packed labels (`mtmed.organ_masks`) each combination of
            organs is a value, so that it counts as much as an organ alone. None: never.

    Raises:
        InputError: an option has a value that is not allowed.
    """

    def __init__(self, *, slice_offsets: Sequence[int] = (0,), foreground_probability: float | None = None) -> None:
        self.slice_offsets = _checked_offsets(slice_offsets)
        self.foreground_probability = checked_probability("foreground_probability", foreground_probability or 0.0)

    def count(self, volumes: Volumes) -> int:
        """Slices per pass."""
        return int(volumes.slice_ends[-1]) if len(volumes) else 0

    def check(self, volumes: Volumes) -> None:
        """Require volumes that have slices; see `mtmed.data.draw.Draw`."""
        _check_axes(volumes)

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> dict[str, Box]:
        """Draw the slice; see `mtmed.data.draw.Draw`."""
        number = int(np.searchsorted(volumes.slice_ends, index, side="right"))
        volume = volumes[number]
        place = index - int(volumes.slice_ends[number]) + volume.shape[0]
        if self.foreground_probability and generator.random() < self.foreground_probability:
            values = [value for value in volume.classes if value > 0]
            if values:
                table = volume.coordinates(values[int(generator.integers(len(values)))])
                place = int(table[int(generator.integers(len(table))), 0])
        return {"patch": _slice_box(volume, place, self.slice_offsets)}


class AdjacentSlices:
    """Pairs of neighbouring slices, a group of them from one scan, for contrast within a batch.

    Samples 2i and 2i + 1 of a group are a slice and the next one of its scan. The first slices of two pairs of a scan
    are at least `minimum_distance` apart, and no slice is in two pairs, so that what the contrast takes for different
    does not look alike; all choices of slices that allow this are equally likely. With ``group="patient"`` the pairs
    are divided among all scans of the patient at random, as if drawn from a bag with as many tickets of each scan as it
    can give pairs.

    Chia, Gu, Lui 2022: 16 pairs of one patient. They note that near slices of two pairs are no true negatives.

    Args:
        pairs: number of pairs in a group.
        minimum_distance: between the first slices of two pairs, slices; 1 is taken for 2, since pairs share no slice.
        group: ``"scan"`` or ``"patient"``.
        slice_offsets: see `EverySlice`.

    Attributes:
        group_size: samples of a group, 2 * pairs.

    Raises:
        InputError: an option has a value that is not allowed.
    """

    def __init__(
        self,
        *,
        pairs: int = 16,
        minimum_distance: int = 3,
        group: PairGroup = "scan",
        slice_offsets: Sequence[int] = (0,),
    ) -> None:
        for name, value in (("pairs", pairs), ("minimum_distance", minimum_distance)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(name, f"is {value!r}", "give a whole number of 1 or more")
        if group not in get_args(PairGroup):
            raise InputError("group", f"is {group!r}", f"choose one of {', '.join(get_args(PairGroup))}")
        self.pairs, self.group = pairs, group
        self.minimum_distance = minimum_distance
        self.slice_offsets = _checked_offsets(slice_offsets)
        self.group_size = 2 * pairs

    def count(self, volumes: Volumes) -> int:
        """Groups per pass: one per scan or patient."""
        return len(self.members(volumes))

    def check(self, volumes: Volumes) -> None:
        """Require that every scan or patient gives the pairs; see `check_pairs`."""
        check_pairs(volumes, self)

    def members(self, volumes: Volumes) -> Sequence[Sequence[int]]:
        """Indices of the volumes that each group may be taken from."""
        return volumes.patients if self.group == "patient" else [(index,) for index in range(len(volumes))]

    def capacity(self, slices: int) -> int:
        """How many pairs a scan of so many slices can give."""
        return (slices - 2) // self._step + 1 if slices > 1 else 0

    def __call__(self, volumes: Volumes, index: int, generator: np.random.Generator) -> list[dict[str, Box]]:
        """Draw the boxes of a group; see `mtmed.data.draw.GroupDraw`."""
        scans = [volumes[number] for number in self.members(volumes)[index]]
        capacities = [self.capacity(volume.shape[0]) for volume in scans]
        counts = generator.multivariate_hypergeometric(capacities, self.pairs)
        boxes = []
        for volume, count in zip(scans, counts.tolist(), strict=True):
            for first in self._first_slices(volume.shape[0], count, generator):
                boxes += [{"patch": _slice_box(volume, first + k, self.slice_offsets)} for k in (0, 1)]
        return boxes

    @property
    def _step(self) -> int:
        return max(self.minimum_distance, 2)

    def _first_slices(self, slices: int, count: int, generator: np.random.Generator) -> list[int]:
        # without the gaps that must lie between them the first slices are any different numbers
        room = slices - 1 - (self._step - 1) * (count - 1)
        chosen = np.sort(generator.choice(room, count, replace=False)) if count else np.empty(0, int)
        return [int(place) + (self._step - 1) * number for number, place in enumerate(chosen)]


def check_pairs(volumes: Volumes, draw: AdjacentSlices) -> None:
    """Require that each scan, or patient, can give as many pairs of neighbouring slices as a group has.

    Raises:
        InputError: naming those that cannot, and how many pairs they can give.
    """
    _check_axes(volumes)
    short: list[tuple[str, int]] = []
    for members in draw.members(volumes):
        scans = [volumes[index] for index in members]
        given = sum(draw.capacity(volume.shape[0]) for volume in scans)
        if given < draw.pairs:
            case = scans[0].case
            short.append((case.key if draw.group == "scan" else f"{case.dataset}/{case.group}", given))
    if short:
        named = ", ".join(f"{name} ({given})" for name, given in short[:_NAMED])
        others = f" and {len(short) - _NAMED} more" if len(short) > _NAMED else ""
        problem = f"is {draw.pairs}, more pairs of neighbouring slices than these {draw.group}s give: {named}{others}"
        remedy = f"leave these {draw.group}s out"
        least = min((given for _, given in short if given), default=0)
        if least:
            remedy = f"lower it to {least}, lower 'minimum_distance' (now {draw.minimum_distance}), or {remedy}"
        elif len(short) == len(draw.members(volumes)):
            remedy = "contrast of neighbouring slices needs scans of several slices; train without it"
        raise InputError("pairs", problem, remedy)


def _slice_box(volume: Volume, place: int, offsets: tuple[int, ...]) -> Box:
    rows, columns = volume.shape[1:]
    return Box(volume.index, (place, 0, 0), (1, rows, columns), slice_offsets=offsets)


def _check_axes(volumes: Volumes) -> None:
    for volume in volumes:
        if len(volume.shape) != 3:
            problem = f"has {len(volume.shape)} axes, slices need three, the first one along the scan"
            raise InputError(volume.case.key, problem, "keep the axis of slices in the preprocessing")


def _checked_offsets(given: Sequence[int]) -> tuple[int, ...]:
    whole = isinstance(given, list | tuple) and all(
        isinstance(offset, int) and not isinstance(offset, bool) for offset in given
    )
    if not whole or not given:
        raise InputError("slice_offsets", f"is {given!r}", "give whole numbers, for example [0] or [-2, 0, 2]")
    return tuple(given)
