"""How soon, in words: what the report says of the validation Dice of the trainings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mtmed.studies.convergence import ArmConvergence, RunConvergence, arm_convergence, run_convergence
from mtmed.studies.dice_curves import DiceCurves
from mtmed.studies.numbers import interval_text, number_text, p_text
from mtmed.studies.results import Result
from mtmed.studies.run_comparison import EPOCHS, MEASURES, RunComparison, compare_runs
from mtmed.studies.smoothing import SMOOTHING

__all__ = ["Convergence", "convergence_rules", "study_convergence"]


def convergence_rules(reference_arm: str) -> dict[str, str]:
    """How the numbers are made; goes into every report."""
    return {
        "Dice": "mean validation Dice of the last training, as recorded, on the cases that it validates; the peak is"
        " chosen on them, and where the study scores these cases too, it is no result",
        "epochs": "of the last training alone, without any pre-training, to the first validation at which the smoothed"
        f" curve is at the last value of the smoothed curve of the reference arm's ({reference_arm}) run of the same"
        " fold, fraction and seed",
        "smoothed": f"moving average: {SMOOTHING}",
        "not reached": "such a run counts with its last validated epoch, so that the mean is a lower bound (≥); a pair"
        " in which the reference needed longer than that is left out as unpaired",
        "nothing to reach": "a run whose reference run ends at a Dice of 0 has no epochs: every curve starts there",
        "pairs": "the unit is a run: two runs of the same fold and seed make a pair, with the two-sided sign-flip test"
        " of the pairs' differences. Runs of one fold share their cases, so that pairs are no independent patients",
        "p (Holm)": "corrected for all planned comparisons of a measure",
        "sooner": "the reference arm comes to its own last value by definition and another arm need not, so the test of"
        " the epochs can show an arm sooner, not later",
    }


@dataclass(frozen=True)
class Convergence:
    """How soon the arms of a study become as good as its reference arm ends.

    Attributes:
        reference_arm: name of the reference arm.
        runs: finished runs with validation Dice.
        arms: means of each arm and label fraction.
        comparisons: every other arm against the reference arm.
        without_dice: finished runs without validation Dice, by name.
    """

    reference_arm: str
    runs: tuple[RunConvergence, ...]
    arms: tuple[ArmConvergence, ...]
    comparisons: tuple[RunComparison, ...]
    without_dice: tuple[str, ...]

    def notes(self) -> list[str]:
        """What is to be known of the runs."""
        windows = {one.run.fraction: one.window for one in self.runs}
        notes = [f"averaged with {fraction:g} % of the labels: {_last(n)}" for fraction, n in sorted(windows.items())]
        notes += [f"no validation Dice: {name}" for name in self.without_dice]
        unknown = [one.run.name for one in self.runs if math.isnan(one.epoch_length)]
        return notes + [f"length of an epoch not known: {name}" for name in unknown]

    def rules(self) -> list[str]:
        """How the numbers are made."""
        return [f"{key}: {rule}" for key, rule in convergence_rules(self.reference_arm).items()]

    def arm_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells of the means."""
        header = ["labels", "arm", "runs", "final Dice", "peak Dice", "its epoch"]
        header += [f"epochs to the final Dice of {self.reference_arm}", "reached"]
        cells = [
            [
                f"{row.fraction:g} %",
                row.arm,
                f"{row.runs} of {row.planned}",
                number_text(row.final, 3),
                number_text(row.peak, 3),
                number_text(row.peak_epoch, 1),
                ("≥ " if row.reached < row.pairs and math.isfinite(row.epochs) else "") + number_text(row.epochs, 1),
                f"{row.reached} of {row.pairs}",
            ]
            for row in self.arms
        ]
        return header, cells

    def comparison_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells of the paired comparisons."""
        header = ["measure", "labels", "arms", "difference (95 % interval)", "pairs", "unpaired", "not reached"]
        header += ["p", "smallest p", "p (Holm)", "smallest p (Holm)", "tests", "result"]
        cells = [
            [
                MEASURES[one.measure],
                f"{one.fraction:g} %",
                f"{one.arm} − {one.against}",
                _difference(one),
                str(one.test.difference.groups),
                str(one.test.unpaired),
                str(one.lower_bounds) if one.measure == EPOCHS else "-",
                *(p_text(p) for p in (one.test.p, one.test.smallest_p, one.p_holm, one.smallest_p_holm)),
                str(one.family),
                one.verdict,
            ]
            for one in self.comparisons
        ]
        return header, cells


def study_convergence(
    results: Sequence[Result], dice: DiceCurves, *, reference_arm: str | None, seed: int = 0
) -> Convergence | None:
    """Follow the validation Dice of all runs to the final Dice of the reference arm, and compare the arms.

    Args:
        results: all runs that the study plans.
        dice: validation Dice of the finished ones.
        reference_arm: the arm that the others shall overtake, such as the model from scratch.
        seed: seed of bootstrap and drawn sign flips.

    Returns:
        None if the study has no reference arm or no run has validation Dice.
    """
    if reference_arm is None or not dice.curves:
        return None
    runs = run_convergence(dice, reference_arm)
    return Convergence(
        reference_arm=reference_arm,
        runs=tuple(runs),
        arms=tuple(arm_convergence(results, runs)),
        comparisons=tuple(compare_runs(results, runs, reference_arm, seed=seed)),
        without_dice=tuple(run.name for run in results if run.state == "finished" and run not in dice.curves),
    )


def _difference(one: RunComparison) -> str:
    interval = one.test.difference
    text = interval_text(interval, 1 if one.measure == EPOCHS else 3, sign=True)
    return f"≥ {text}" if one.lower_bounds and interval.n else text


def _last(validations: int) -> str:
    return "each single validation" if validations == 1 else f"the last {validations} validations"
