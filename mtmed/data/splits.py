"""Which cases train and which validate: by patient, by folds, by label fraction.

The order of the patients is a hash of (seed, data set, patient), so that it depends neither on the order of the rows
nor on which other patients there are. Fold f of n validates every n-th patient from the f-th on; a label fraction takes
the first patients of what is left for training, so that 15 % contains 5 %.
"""

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mtmed.data.case import Case
from mtmed.errors import InputError
from mtmed.transforms.slice_name import parse_slice_name

__all__ = [
    "SPLIT_KEYS",
    "Group",
    "Split",
    "check_split_disjoint",
    "check_split_key",
    "group_of",
    "make_split",
    "shuffle_order",
    "take_fraction",
]

SPLIT_KEYS = {
    "patient": "split by patient",
    "patient_day": "split by patient and day (a validated patient's other days may be in training)",
}

Group = tuple[str, str]
"""Data set and patient, or data set, patient and day in one name."""


@dataclass(frozen=True)
class Split:
    """Cases to train and cases to validate.

    Attributes:
        training: in the order of the input.
        validation: in the order of the input.
        key: what the parts share nothing of: ``patient`` or ``patient_day``.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    key: str

    @property
    def stated(self) -> str:
        """The sentence that every table made with this split must carry."""
        return SPLIT_KEYS[self.key]


def make_split(
    cases: Sequence[Case],
    *,
    folds: int = 5,
    fold: int | Literal["none"] | None = 0,
    fraction: float = 100,
    key: str = "patient",
    seed: int = 0,
) -> Split:
    """Divide cases into training and validation.

    Folds given by the authors of a data set (`Case.fold`, in all of its cases) are kept; ``folds`` and ``seed`` then do
    not touch it. Data sets are mixed evenly: folds differ by at most one patient, and the label fraction is taken of
    each data set, at least one patient.

    Args:
        cases: labelled cases of one or several data sets.
        folds: number of folds.
        fold: the fold that validates, from 0; None or ``"none"`` (MONAI's command line passes no null): all cases
            train.
        fraction: percentage of the training patients that is kept, above 0 and at most 100, rounded half up.
        key: ``patient``, or ``patient_day``, with which other days of a validated patient may be trained on.
        seed: seed of the order.

    Raises:
        InputError: if an option is out of range, if there are fewer patients than folds, if a day is missing, if folds
            are given for some cases only, or if the parts would share a case, an image or a patient.
    """
    check_split_key(key)
    if not (isinstance(folds, int) and folds >= 2):
        raise InputError("folds", f"is {folds!r}", "use a whole number from 2, or fold none to train on all cases")
    fold = None if fold == "none" else fold
    if not cases:
        raise InputError("cases", "there are none with a label", "list labelled cases under 'training'")

    groups = [group_of(case, key) for case in cases]
    order = sorted(set(groups), key=lambda group: (group[0], shuffle_order(seed, group), group))
    validated: set[Group] = set()
    if fold is not None:
        fold_of = _assign_folds(cases, groups, order, folds)
        known = sorted(set(fold_of.values()))
        validated = {group for group in order if fold_of[group] == fold}
        if isinstance(fold, bool) or not validated:
            raise InputError(
                "fold", f"is {fold!r}", f"use one of {', '.join(map(str, known))}, or none for no validation"
            )
        if len(validated) == len(order):
            raise InputError(order[0][0], f"all cases are in fold {fold}", "correct 'fold' in the manifest")

    kept = take_fraction([group for group in order if group not in validated], fraction)
    training = tuple(case for case, group in zip(cases, groups, strict=True) if group in kept)
    validation = tuple(case for case, group in zip(cases, groups, strict=True) if group in validated)
    check_split_disjoint(training, validation, key)
    return Split(training, validation, key)


def take_fraction(order: Sequence[Group], fraction: float) -> set[Group]:
    """The first groups of each data set: a percentage of them, rounded half up, at least one.

    Raises:
        InputError: if the percentage is out of range.
    """
    if not 0 < fraction <= 100:
        raise InputError("fraction", f"is {fraction!r}", "give a percentage above 0 and at most 100")
    of_dataset: dict[str, list[Group]] = defaultdict(list)
    for group in order:
        of_dataset[group[0]].append(group)
    kept: set[Group] = set()
    for groups in of_dataset.values():
        kept.update(groups[: max(1, math.floor(fraction / 100 * len(groups) + 0.5))])
    return kept


def check_split_key(key: str) -> None:
    """Refuse what is no split key.

    Raises:
        InputError: if it is not in `SPLIT_KEYS`.
    """
    if key not in SPLIT_KEYS:
        raise InputError("split key", f"is '{key}'", f"use one of {', '.join(SPLIT_KEYS)}")


def check_split_disjoint(
    training: Sequence[Case],
    validation: Sequence[Case],
    key: str = "patient",
    *,
    names: tuple[str, str] = ("training", "validation"),
) -> None:
    """Require that two parts share no case, no image file and nothing of the split key.

    A folder of slices and one of these slices are a shared image.

    Args:
        training: cases of one part.
        validation: cases of the other part.
        key: ``patient`` or ``patient_day``.
        names: what the parts are called.

    Raises:
        InputError: naming the first thing shared.
    """
    one, two = names
    keys = {case.key for case in training}
    images = {os.path.realpath(image): case.key for case in training for image in case.images}
    scans = {folder: case.key for case in training for image in case.images if (folder := _folder_of_slice(image))}
    groups = {group_of(case, key): case.key for case in training}
    remedy = "give each to one part only"
    for case in validation:
        if case.key in keys:
            raise InputError(case.key, f"is in {one} and in {two}", remedy)
        for image in case.images:
            place = os.path.realpath(image)
            other = images.get(place) or scans.get(place) or images.get(_folder_of_slice(image))
            if other is not None:
                raise InputError(case.key, f"is in {two} with an image that {other} has in {one}: {image}", remedy)
        other = groups.get(group_of(case, key))
        if other is not None:
            what = f"patient '{case.group}'" + (f" day '{case.visit}'" if key == "patient_day" else "")
            raise InputError(case.key, f"{what} is in {two} and, as {other}, in {one}", remedy)


def _folder_of_slice(image: str) -> str:
    """The folder of the scan that an image file is a slice of; nothing if it is none."""
    folder, name = os.path.split(image)
    return os.path.realpath(folder) if parse_slice_name(name) else ""


def group_of(case: Case, key: str) -> Group:
    """Data set and patient, or patient and day: the same name in two data sets is not the same patient.

    Raises:
        InputError: if the case lacks the day that the key needs.
    """
    if key == "patient":
        return case.dataset, case.group
    if case.visit is None:
        raise InputError(case.key, "has no 'visit', which the split key patient_day needs", "add it, or use patient")
    return case.dataset, f"{case.group}\0{case.visit}"


def shuffle_order(seed: int, group: Group) -> bytes:
    """Where a group comes in the shuffled order: a hash of seed, data set and name."""
    return hashlib.blake2b(f"{seed}/{group[0]}/{group[1]}".encode(), digest_size=16).digest()


def _assign_folds(
    cases: Sequence[Case], groups: Sequence[Group], order: Sequence[Group], folds: int
) -> dict[Group, int]:
    """Fold of each group: the authors' where they give one, else dealt out in the shuffled order."""
    given: dict[str, set[bool]] = defaultdict(set)
    authors: dict[Group, int] = {}
    for case, group in zip(cases, groups, strict=True):
        given[case.dataset].add(case.fold is not None)
        if len(given[case.dataset]) > 1:
            raise InputError(case.key, "'fold' is given for some cases of the data set only", "give it for all or none")
        if case.fold is not None and authors.setdefault(group, case.fold) != case.fold:
            problem = f"patient '{case.group}' is in the folds {authors[group]} and {case.fold}"
            raise InputError(case.key, problem, "give all cases of a patient the same 'fold'")
    free = [group for group in order if group not in authors]
    if free and len(free) < folds:
        problem = f"{len(free)} patients cannot make {folds} folds"
        remedy = f"use folds up to {len(free)}" if len(free) > 1 else "use fold none, which trains on all cases"
        raise InputError("folds", problem, remedy)
    return authors | {group: index % folds for index, group in enumerate(free)}
