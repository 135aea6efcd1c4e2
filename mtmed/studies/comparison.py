"""Arms against each other on the same patients, corrected for the number of comparisons."""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mtmed.studies.results import Result, Score
from mtmed.studies.statistics import PairedTest, holm, paired_test

__all__ = ["Comparison", "compare_arms"]

_SIGNIFICANCE = 0.05  # after Holm


@dataclass(frozen=True)
class Comparison:
    """One arm against another on the same patients.

    Attributes:
        metric: column of ``scores.csv``.
        organ: name of the organ, ``all`` for the mean over all.
        fraction: share of the labels, %.
        arm: the arm.
        against: the arm it is compared with; the difference is `arm` − `against`.
        test: difference, p-value and the smallest that could be.
        p_holm: p-value after Holm's correction.
        smallest_p_holm: smallest p-value after Holm's correction, if all of the family reached theirs.
        family: number of comparisons that were corrected for.
    """

    metric: str
    organ: str
    fraction: float
    arm: str
    against: str
    test: PairedTest
    p_holm: float
    smallest_p_holm: float
    family: int

    @property
    def verdict(self) -> str:
        """The result in words."""
        if not self.test.difference.groups:
            return "no patient in both arms"
        if self.smallest_p_holm > _SIGNIFICANCE:
            return "cannot be significant"
        return "significant" if self.p_holm <= _SIGNIFICANCE else "not significant"


def compare_arms(
    scores: Mapping[Result, Sequence[Score]],
    metric: str,
    organs: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[float, str, str]],
    *,
    seed: int = 0,
) -> list[Comparison]:
    """Compare arms in one metric; Holm's correction runs over all comparisons that are given.

    Args:
        scores: scores of each finished run.
        metric: the metric.
        organs: rows of the table: a name, and the organs whose values it has.
        pairs: (fraction, arm, arm it is compared with).
        seed: seed of bootstrap and drawn sign flips.
    """
    made = []
    for (organ, kept), (fraction, arm, against) in itertools.product(organs.items(), pairs):
        first, second = (_by_case(scores, name, fraction, metric, kept) for name in (arm, against))
        made.append((organ, fraction, arm, against, paired_test(first, second, seed=seed)))
    corrected = holm([test.p for *_, test in made])
    smallest = holm([test.smallest_p for *_, test in made])
    size = sum(math.isfinite(test.p) for *_, test in made)
    return [
        Comparison(metric, organ, fraction, arm, against, test, p_holm, least, size)
        for (organ, fraction, arm, against, test), p_holm, least in zip(made, corrected, smallest, strict=True)
    ]


def _by_case(
    scores: Mapping[Result, Sequence[Score]], arm: str, fraction: float, metric: str, kept: Sequence[str]
) -> dict[tuple[str, Hashable], list[float]]:
    found: dict[tuple[str, Hashable], list[float]] = {}
    for result, own in scores.items():
        if (result.arm, result.fraction) == (arm, fraction):
            for score in own:
                if score.organ in kept:
                    found.setdefault((score.patient, (score.case, score.organ)), []).append(score.values[metric])
    return found
