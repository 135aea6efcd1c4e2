"""How the parts that a ``dataset.json`` records were made: its key ``split``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mtmed.data.case import Case
from mtmed.data.splits import SPLIT_KEYS
from mtmed.errors import InputError

__all__ = ["PARTS", "RecordedSplit", "check_parts_given", "parse_recorded_split", "with_part_key"]

PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class RecordedSplit:
    """Options with which `mtmed.data.parts.split_parts` made the parts that the rows carry.

    Attributes:
        key: what the parts share nothing of: ``patient`` or ``patient_day``.
        shares: percentages of `PARTS`.
        seed: seed of the order.
    """

    key: str
    shares: tuple[float, ...]
    seed: int


def parse_recorded_split(content: object, culprit: object) -> RecordedSplit | None:
    """Read the value of the key ``split``; None if there is none.

    Raises:
        InputError: naming ``culprit`` if it is not ``{"key": ..., "shares": [...], "seed": ...}``.
    """
    if content is None:
        return None
    remedy = 'write {"key": "patient", "shares": [70, 20, 10], "seed": 0}, or take it out'
    problem = f"'split' is {content!r}"
    if not isinstance(content, dict) or set(content) != {"key", "shares", "seed"}:
        raise InputError(culprit, problem, remedy)
    key, shares, seed = content["key"], content["shares"], content["seed"]
    if key not in SPLIT_KEYS:
        raise InputError(culprit, f"'split' has the key {key!r}", f"use one of {', '.join(SPLIT_KEYS)}")
    numbers = [*shares, seed] if isinstance(shares, list) else []
    whole = isinstance(seed, int) and all(isinstance(item, int | float) for item in numbers)
    if len(numbers) != len(PARTS) + 1 or not whole or any(isinstance(item, bool) for item in numbers):
        raise InputError(culprit, problem, remedy)
    return RecordedSplit(key, tuple(shares), seed)


def with_part_key(cases: Sequence[Case], split: RecordedSplit | None, culprit: object) -> tuple[Case, ...]:
    """Tell each case what its part was made by.

    Raises:
        InputError: naming ``culprit`` if only some cases carry a part, or none though the file says how it was made.
    """
    given = check_parts_given(cases, prefix=f"{culprit} ")
    if split is not None and not given:
        raise InputError(culprit, "has 'split' but no row has 'part'", "take 'split' out, or write the file anew")
    return tuple(replace(case, part_key=split.key) for case in cases) if split is not None else tuple(cases)


def check_parts_given(cases: Sequence[Case], *, prefix: str = "") -> bool:
    """Whether the cases carry parts: all of them or none.

    Args:
        cases: labelled cases.
        prefix: what stands before the case in the message.

    Raises:
        InputError: naming the first case without a part if others have one.
    """
    without = [case for case in cases if case.part is None]
    if without and len(without) < len(cases):
        culprit = f"{prefix}{without[0].key}"
        raise InputError(culprit, "has no 'part' though other cases have", "give it to all cases or to none")
    return bool(cases) and not without
