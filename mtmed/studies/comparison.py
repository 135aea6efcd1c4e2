"""Arms against each other on the same patients, corrected for the number of comparisons."""

import itertools
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from mtmed.metrics.names import LOWER_IS_BETTER, METRIC_NAMES, NEITHER_IS_BETTER
from mtmed.studies.results import Result, Score
from mtmed.studies.statistics import SIGNIFICANCE, PairedTest, holm, paired_test

__all__ = ["Comparison", "compare_arms"]


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
        complete: whether all runs of both arms have scores.
        planned: whether the study names this pair.
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
    complete: bool
    planned: bool = False

    @property
    def verdict(self) -> str:
        """The result in words; for metrics without a better side, whether the arm's values are higher."""
        if not self.complete:
            return "runs missing"
        if not self.test.difference.groups:
            return "no patient in both arms"
        if self.smallest_p_holm > SIGNIFICANCE:
            return "cannot be significant"
        if self.p_holm > SIGNIFICANCE:
            return "not significant"
        higher = self.test.difference.mean > 0
        if self.metric not in METRIC_NAMES or self.metric in NEITHER_IS_BETTER:
            return f"significantly {'higher' if higher else 'lower'}"
        better = higher != (self.metric in LOWER_IS_BETTER)
        return f"significantly {'better' if better else 'worse'}"


def compare_arms(
    scores: Mapping[Result, Sequence[Score]],
    metric: str,
    organs: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[float, str, str]],
    *,
    unfinished: Collection[tuple[float, str]] = (),
    planned: bool = False,
    seed: int = 0,
) -> list[Comparison]:
    """Compare arms in one metric; Holm's correction counts all comparisons that are given, made or not.

    Args:
        scores: scores of each finished run.
        metric: the metric.
        organs: rows of the table: a name, and the organs whose values it has.
        pairs: (fraction, arm, arm it is compared with).
        unfinished: each (fraction, arm) of which a run has no scores.
        planned: whether the study names these pairs.
        seed: seed of bootstrap and drawn sign flips.
    """
    made = []
    for (organ, kept), (fraction, arm, against) in itertools.product(organs.items(), pairs):
        first, second = (_by_case(scores, name, fraction, metric, kept) for name in (arm, against))
        made.append((organ, fraction, arm, against, paired_test(first, second, seed=seed)))
    corrected = holm([test.p for *_, test in made], tests=len(made))
    smallest = holm([test.smallest_p for *_, test in made], tests=len(made))
    return [
        Comparison(
            metric,
            organ,
            fraction,
            arm,
            against,
            test,
            p_holm,
            least,
            family=len(made),
            complete=not {(fraction, arm), (fraction, against)} & set(unfinished),
            planned=planned,
        )
        for (organ, fraction, arm, against, test), p_holm, least in zip(made, corrected, smallest, strict=True)
    ]


def _by_case(
    scores: Mapping[Result, Sequence[Score]], arm: str, fraction: float, metric: str, kept: Sequence[str]
) -> dict[tuple[str, Hashable], float]:
    found: dict[tuple[str, Hashable], float] = {}
    for result, own in scores.items():
        if (result.arm, result.fraction) == (arm, fraction):
            for score in own:
                if score.organ in kept:
                    measurement = (result.fold, result.seed, score.case, score.organ)
                    found[score.patient, measurement] = score.values[metric]
    return found
