"""How soon each run becomes as good as the reference arm's run of the same fold, label fraction and seed ends."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mtmed.metrics.tables import mean_of_defined
from mtmed.studies.curves import Curve
from mtmed.studies.dice_curves import DiceCurves, iterations_per_epoch
from mtmed.studies.results import Result
from mtmed.studies.smoothing import arrival, dice_window, moving_average

__all__ = ["ArmConvergence", "Arrival", "RunConvergence", "Status", "arm_convergence", "run_convergence"]

Status = Literal["reached", "not reached", "no reference run", "reference found nothing"]


@dataclass(frozen=True)
class Arrival:
    """When a curve of validation Dice comes to a value.

    Attributes:
        final: last value of the curve.
        target: the value, last of the reference arm's run; NaN without such a run.
        iteration: of the first validation that is at the target or above; NaN where none is.
    """

    final: float
    target: float
    iteration: float

    @property
    def status(self) -> Status:
        """Whether the curve came there; every curve starts at a target of 0, so that says nothing."""
        if not math.isfinite(self.target):
            return "no reference run"
        if self.target <= 0:
            return "reference found nothing"
        return "reached" if math.isfinite(self.iteration) else "not reached"

    @property
    def comparable(self) -> bool:
        """Whether there is something to come to."""
        return self.status in ("reached", "not reached")


@dataclass(frozen=True)
class RunConvergence:
    """Validation Dice of one run.

    Attributes:
        run: the run.
        validations: number of validations.
        window: validations that are averaged (see `mtmed.studies.smoothing`).
        epoch_length: iterations per epoch, NaN if it is not known, and with it all epochs.
        last: iteration of the last validation.
        peak: highest Dice, as recorded.
        peak_iteration: of the first validation with it.
        recorded: arrival of the curve as recorded at the reference run's last value.
        smoothed: arrival of the smoothed curve at the last value of the reference run's smoothed one.
    """

    run: Result
    validations: int
    window: int
    epoch_length: float
    last: float
    peak: float
    peak_iteration: float
    recorded: Arrival
    smoothed: Arrival

    def epochs(self, iterations: float) -> float:
        """Iterations in epochs."""
        return iterations / self.epoch_length

    @property
    def least_epochs(self) -> float:
        """Epochs to the target, smoothed; where it is not reached the last validated epoch, which is too few."""
        if not self.smoothed.comparable:
            return math.nan
        return self.epochs(self.smoothed.iteration if self.smoothed.status == "reached" else self.last)


@dataclass(frozen=True)
class ArmConvergence:
    """Means over the runs of one arm at one label fraction.

    Attributes:
        arm: name of the arm.
        fraction: share of the labels, %.
        planned: number of runs.
        runs: number of finished runs with validation Dice.
        final: mean of the last Dice, as recorded.
        peak: mean of the highest Dice.
        peak_epoch: mean epoch of it.
        pairs: number of runs whose reference run has validation Dice too and ends above 0.
        reached: how many of these came to its final Dice, smoothed.
        epochs: mean epochs to it; a run that does not come there counts with its last epoch.
    """

    arm: str
    fraction: float
    planned: int
    runs: int
    final: float
    peak: float
    peak_epoch: float
    pairs: int
    reached: int
    epochs: float


def run_convergence(dice: DiceCurves, reference_arm: str) -> list[RunConvergence]:
    """Follow the validation Dice of every run to the final Dice of its reference run.

    Args:
        dice: validation Dice of the finished runs.
        reference_arm: the arm that the others shall overtake, such as the model from scratch.
    """
    counts = {run: len(curve.steps) for run, curve in dice.curves.items()}
    reference = {_pair(run): curve for run, curve in dice.curves.items() if run.arm == reference_arm}
    found = []
    for run, curve in dice.curves.items():
        window = dice_window(count for other, count in counts.items() if other.fraction == run.fraction)
        target = reference.get(_pair(run))
        best = int(np.argmax(curve.values))
        length = iterations_per_epoch(run.training) if run.training is not None else None
        found.append(
            RunConvergence(
                run=run,
                validations=len(curve.steps),
                window=window,
                epoch_length=math.nan if length is None else length,
                last=float(curve.steps[-1]),
                peak=float(curve.values[best]),
                peak_iteration=float(curve.steps[best]),
                recorded=_arrival(curve, target, 1),
                smoothed=_arrival(curve, target, window),
            )
        )
    return found


def arm_convergence(results: Sequence[Result], runs: Sequence[RunConvergence]) -> list[ArmConvergence]:
    """Means of every planned arm and label fraction.

    Args:
        results: all runs that the study plans.
        runs: see `run_convergence`.
    """
    fractions = sorted({result.fraction for result in results})
    rows = []
    for fraction, arm in itertools.product(fractions, dict.fromkeys(result.arm for result in results)):
        planned = sum((result.fraction, result.arm) == (fraction, arm) for result in results)
        own = [one for one in runs if (one.run.fraction, one.run.arm) == (fraction, arm)]
        paired = [one for one in own if one.smoothed.comparable]
        if planned:
            rows.append(
                ArmConvergence(
                    arm=arm,
                    fraction=fraction,
                    planned=planned,
                    runs=len(own),
                    final=mean_of_defined(one.recorded.final for one in own),
                    peak=mean_of_defined(one.peak for one in own),
                    peak_epoch=mean_of_defined(one.epochs(one.peak_iteration) for one in own),
                    pairs=len(paired),
                    reached=sum(one.smoothed.status == "reached" for one in paired),
                    epochs=mean_of_defined(one.least_epochs for one in paired),
                )
            )
    return rows


def _pair(run: Result) -> tuple[int | str, float, int]:
    return run.fold, run.fraction, run.seed


def _arrival(curve: Curve, reference: Curve | None, window: int) -> Arrival:
    values = moving_average(curve.values, window)
    target = math.nan if reference is None else float(moving_average(reference.values, window)[-1])
    index = arrival(values, target)
    return Arrival(float(values[-1]), target, math.nan if index is None else float(curve.steps[index]))
