"""Which cases train, validate and test: shares of the patients, rotated by fold.

The groups (patients, or patients and days) stand on a circle in the hash order of `mtmed.data.splits`, in which data
sets are mixed evenly. Fold f takes the validation groups from place f * (number of validation groups) on, the test
groups follow, the rest trains. So the validation groups of different folds are different ones, and one seed and fold
give the same parts on every machine. Parts that the manifest records are kept.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations

from mtmed.data.case import Case
from mtmed.data.manifest import Manifest
from mtmed.data.recorded_split import PARTS, RecordedSplit, check_parts_given
from mtmed.data.splits import (
    SPLIT_KEYS,
    Group,
    check_split_disjoint,
    check_split_key,
    group_of,
    shuffle_order,
    take_fraction,
)
from mtmed.errors import InputError

__all__ = ["PARTS", "Parts", "record_parts", "split_parts"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Cases to train, to choose by and to test with, each in the order of the input.

    Attributes:
        training: cases to train with.
        validation: cases to choose settings and epochs by.
        test: cases that are looked at once.
        key: what the parts share nothing of: ``patient`` or ``patient_day``.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    key: str

    @property
    def stated(self) -> str:
        """The sentence that every table made with these parts must carry."""
        return SPLIT_KEYS[self.key]

    def part(self, name: str) -> tuple[Case, ...]:
        """Cases of one part.

        Args:
            name: ``training``, ``validation`` or ``test``.

        Raises:
            InputError: if it is none of these, or the part is empty.
        """
        if name not in PARTS:
            raise InputError("part", f"is {name!r}", f"use one of {', '.join(PARTS)}")
        cases: tuple[Case, ...] = getattr(self, name)
        if not cases:
            raise InputError("part", f"{name!r} has no case", "give it a share above 0, or use another part")
        return cases


def split_parts(
    cases: Sequence[Case],
    *,
    shares: Sequence[float] = (70, 20, 10),
    fold: int = 0,
    fraction: float = 100,
    key: str = "patient",
    seed: int = 0,
) -> Parts:
    """Divide cases into training, validation and test.

    The numbers of groups are the shares rounded by largest remainder (the earlier part first if remainders are equal);
    a share above 0 has at least one group.

    Args:
        cases: labelled cases of one or several data sets. If they carry `Case.part`, these are the parts: then
            ``shares`` and ``seed`` do nothing, and there is no fold but 0.
        shares: percentages of the groups for training, validation and test, together 100.
        fold: which groups validate and test, from 0.
        fraction: percentage of the training groups that is kept, above 0 and at most 100, rounded half up, of each data
            set at least one; smaller fractions are in larger ones.
        key: ``patient``, or ``patient_day``, with which other days of a validated patient may be trained on.
        seed: seed of the order.

    Raises:
        InputError: if an option is out of range, if there are fewer groups than parts, if a day is missing, if the key
            is not the one the parts were recorded with, if a recorded part is missing for some cases, or if the parts
            would share a case, an image or a group.
    """
    check_split_key(key)
    if not cases:
        raise InputError("cases", "there are none with a label", "list labelled cases under 'training'")
    groups = [group_of(case, key) for case in cases]
    order = _circle(groups, seed)
    if check_parts_given(cases):
        part_of = _recorded(cases, groups, fold, key)
        logger.info("the parts that the manifest records are kept; shares and split seed do nothing")
    else:
        counts = _counts(shares, len(order), key)
        part_of = _rotated(order, counts, fold)
    kept = take_fraction([group for group in order if part_of[group] == "training"], fraction)
    parts = {
        name: tuple(
            case
            for case, group in zip(cases, groups, strict=True)
            if part_of[group] == name and (name != "training" or group in kept)
        )
        for name in PARTS
    }
    for one, other in combinations(PARTS, 2):
        check_split_disjoint(parts[one], parts[other], key, names=(one, other))
    return Parts(**parts, key=key)


def record_parts(
    manifest: Manifest, *, shares: Sequence[float], key: str = "patient", seed: int = 0
) -> tuple[Manifest, Parts]:
    """Write into a manifest which cases train, validate and test: `split_parts` of fold 0.

    Args:
        manifest: the data set; parts that it has are made anew.
        shares: see `split_parts`.
        key: see `split_parts`.
        seed: see `split_parts`.

    Returns:
        The manifest with `Case.part` and `Manifest.split`, and the parts.

    Raises:
        InputError: as `split_parts`.
    """
    bare = [replace(case, part=None, part_key=None) for case in manifest.cases]
    parts = split_parts(bare, shares=shares, key=key, seed=seed)
    part_of = {case.key: name for name in PARTS for case in getattr(parts, name)}
    cases = tuple(replace(case, part=part_of[case.key], part_key=key) for case in bare)
    whole = tuple(int(share) if share == int(share) else share for share in shares)
    return replace(manifest, cases=cases, split=RecordedSplit(key, whole, seed)), parts


def _circle(groups: Sequence[Group], seed: int) -> list[Group]:
    """Groups in hash order, those of each data set spread evenly over the circle."""
    shuffled = sorted(set(groups), key=lambda group: (shuffle_order(seed, group), group))
    sizes = Counter(dataset for dataset, _ in shuffled)
    seen: Counter[str] = Counter()
    places: list[tuple[Fraction, int, Group]] = []
    for rank, group in enumerate(shuffled):
        places.append((Fraction(2 * seen[group[0]] + 1, 2 * sizes[group[0]]), rank, group))
        seen[group[0]] += 1
    return [group for *_, group in sorted(places)]


def _counts(shares: Sequence[float], groups: int, key: str) -> list[int]:
    """Number of groups of each part."""
    remedy = "give three percentages that make 100, of training, validation and test: [70, 20, 10]"
    numbers = isinstance(shares, list | tuple) and all(
        isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 100 for share in shares
    )
    if not numbers or len(shares) != len(PARTS) or shares[0] == 0 or not math.isclose(sum(shares), 100):
        raise InputError("shares", f"are {shares!r}", remedy)
    wanted = sum(share > 0 for share in shares)
    if groups < wanted:
        unit = "patients" if key == "patient" else "patient-days"
        problem = f"{groups} {unit} cannot make {wanted} parts"
        raise InputError("shares", problem, "give fewer parts a share, for example [50, 50, 0], or add cases")
    # exact, so that equal remainders are equal on every machine
    exact = [Fraction(str(share)) * groups / 100 for share in shares]
    counts = [math.floor(number) for number in exact]
    by_remainder = sorted(range(len(PARTS)), key=lambda place: (counts[place] - exact[place], place))
    for place in by_remainder[: groups - sum(counts)]:
        counts[place] += 1
    for place, share in enumerate(shares):
        if share > 0 and counts[place] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[place] = 1
    return counts


def _rotated(order: Sequence[Group], counts: Sequence[int], fold: int) -> dict[Group, str]:
    """Part of each group: an arc of the circle each for validation and test."""
    _, validation, test = counts
    folds = len(order) // validation if validation else 1
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < folds:
        known = "0" if folds == 1 else f"a whole number from 0 to {folds - 1}"
        raise InputError("fold", f"is {fold!r}", f"use {known}, since {validation} of {len(order)} validate")
    start = fold * validation
    turned = [*order[start:], *order[:start]]
    part_of = dict.fromkeys(turned, "training")
    part_of |= dict.fromkeys(turned[:validation], "validation")
    part_of |= dict.fromkeys(turned[validation : validation + test], "test")
    return part_of


def _recorded(cases: Sequence[Case], groups: Sequence[Group], fold: int, key: str) -> dict[Group, str]:
    """Part of each group as the manifest has it."""
    if fold != 0 or isinstance(fold, bool):
        remedy = "use 0, or take 'part' out of the manifest to divide anew"
        raise InputError("fold", f"is {fold!r}, but the manifest records which cases train, validate and test", remedy)
    part_of: dict[Group, str] = {}
    for case, group in zip(cases, groups, strict=True):
        if case.part_key not in (None, key):
            problem = f"is {key!r}, but the manifest divides {case.dataset} by {case.part_key}"
            remedy = f"use {case.part_key}, or take 'part' and 'split' out of the manifest"
            raise InputError("split key", problem, remedy)
        part = str(case.part)
        if part_of.setdefault(group, part) != part:
            what = f"patient '{case.group}'" + (f" day '{case.visit}'" if key == "patient_day" else "")
            problem = f"{what} is in {part_of[group]} and in {part}, though split by {key}"
            raise InputError(case.key, problem, "give all its cases the same 'part', or use another split key")
    if "training" not in part_of.values():
        raise InputError("part", "no case of the manifest has 'training'", "give it to some cases")
    return part_of
