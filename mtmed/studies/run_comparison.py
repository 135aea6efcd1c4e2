"""Arms against the reference arm over pairs of runs: final and peak validation Dice, and how soon."""

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from mtmed.studies.convergence import RunConvergence
from mtmed.studies.results import Result
from mtmed.studies.statistics import SIGNIFICANCE, PairedTest, holm, paired_test

__all__ = ["EPOCHS", "MEASURES", "RunComparison", "compare_runs"]

EPOCHS = "epochs_to_reference"

MEASURES: dict[str, str] = {
    "final_dice": "final Dice",
    "peak_dice": "peak Dice",
    EPOCHS: "epochs to the reference's final Dice",
}
"""What is compared, and how it is called in reports."""

_VALUE: dict[str, Callable[[RunConvergence], float]] = {
    "final_dice": lambda one: one.recorded.final,
    "peak_dice": lambda one: one.peak,
    EPOCHS: lambda one: one.least_epochs,
}


@dataclass(frozen=True)
class RunComparison:
    """One arm against the reference arm on runs of the same fold and seed.

    Attributes:
        measure: one of `MEASURES`.
        fraction: share of the labels, %.
        arm: the arm.
        against: the reference arm; the difference is `arm` − `against`.
        test: difference, p-value and the smallest that could be; its groups are pairs of runs.
        lower_bounds: pairs in which the arm did not reach the reference, so that their difference is too small.
        p_holm: p-value after Holm's correction.
        smallest_p_holm: smallest p-value after Holm's correction, if all of the family reached theirs.
        family: number of comparisons that were corrected for: all that the study plans in this measure.
        complete: whether all planned runs of both arms have a value.
    """

    measure: str
    fraction: float
    arm: str
    against: str
    test: PairedTest
    lower_bounds: int
    p_holm: float
    smallest_p_holm: float
    family: int
    complete: bool

    @property
    def verdict(self) -> str:
        """The result in words. The test of the epochs proves an arm sooner, never later (see `convergence_report`)."""
        if not self.complete:
            return "runs missing"
        if not self.test.difference.groups:
            return "no run in both arms"
        if self.smallest_p_holm > SIGNIFICANCE:
            return "cannot be significant"
        higher = self.test.difference.mean > 0
        if self.measure == EPOCHS and higher:
            return "not sooner"
        if self.p_holm > SIGNIFICANCE:
            return "not significant"
        return "significantly sooner" if self.measure == EPOCHS else f"significantly {'better' if higher else 'worse'}"


def compare_runs(
    results: Sequence[Result], runs: Sequence[RunConvergence], reference_arm: str, *, seed: int = 0
) -> list[RunComparison]:
    """Compare every arm with the reference arm at every label fraction that both are planned for.

    A pair is one fold and seed. Where an arm does not come to the reference run's final Dice, the last validated epoch
    stands for its epochs if the reference needed no more, which makes the difference too small; if the reference
    needed more, which of them is sooner is not known and the pair is left out.

    Args:
        results: all runs that the study plans.
        runs: those with validation Dice.
        reference_arm: the arm that all others are compared with.
        seed: seed of bootstrap and drawn sign flips.
    """
    planned = {(result.fraction, result.arm) for result in results}
    followed = {one.run for one in runs}
    unfinished = {(result.fraction, result.arm) for result in results if result not in followed}
    fractions, arms = sorted({fraction for fraction, _ in planned}), dict.fromkeys(result.arm for result in results)
    pairs = [
        (fraction, arm)
        for fraction, arm in itertools.product(fractions, arms)
        if arm != reference_arm and {(fraction, arm), (fraction, reference_arm)} <= planned
    ]
    compared = []
    for measure in MEASURES:
        tests = {pair: _test(runs, measure, *pair, reference_arm, seed) for pair in pairs}
        corrected = holm([test.p for test, _ in tests.values()], tests=len(pairs))
        smallest = holm([test.smallest_p for test, _ in tests.values()], tests=len(pairs))
        compared += [
            RunComparison(
                measure,
                fraction,
                arm,
                reference_arm,
                test,
                lower_bounds,
                p_holm,
                least,
                family=len(pairs),
                complete=not {(fraction, arm), (fraction, reference_arm)} & unfinished,
            )
            for ((fraction, arm), (test, lower_bounds)), p_holm, least in zip(
                tests.items(), corrected, smallest, strict=True
            )
        ]
    return compared


def _test(
    runs: Sequence[RunConvergence], measure: str, fraction: float, arm: str, reference_arm: str, seed: int
) -> tuple[PairedTest, int]:
    own, reference = (
        {f"fold {one.run.fold}, seed {one.run.seed}": one for one in runs if _is_of(one.run, name, fraction)}
        for name in (arm, reference_arm)
    )
    first, second = (_values(side, measure) for side in (own, reference))
    lower_bounds = 0
    if measure == EPOCHS:
        for pair, one in own.items():
            if one.smoothed.status != "not reached":
                continue
            needed = second[pair, measure]
            if first[pair, measure] < needed:
                first[pair, measure] = math.nan
            elif math.isfinite(needed):
                lower_bounds += 1
    return paired_test(first, second, seed=seed), lower_bounds


def _values(runs: Mapping[str, RunConvergence], measure: str) -> dict[tuple[str, Hashable], float]:
    return {(pair, measure): _VALUE[measure](one) for pair, one in runs.items()}


def _is_of(run: Result, arm: str, fraction: float) -> bool:
    return (run.arm, run.fraction) == (arm, fraction)
