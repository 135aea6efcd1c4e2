"""How soon, as plain values: what JSON and CSV files of the report hold of the validation Dice of the trainings."""

from typing import Any

from mtmed.metrics.tables import finite_or_none
from mtmed.studies.convergence import ArmConvergence, Arrival, RunConvergence
from mtmed.studies.convergence_report import Convergence, convergence_rules
from mtmed.studies.run_comparison import RunComparison

__all__ = ["convergence_values"]


def convergence_values(convergence: Convergence) -> dict[str, Any]:
    """All of it as plain values for JSON; None where there is no number."""
    return {
        "reference_arm": convergence.reference_arm,
        "runs": [_run_values(one) for one in convergence.runs],
        "arms": [_arm_values(row) for row in convergence.arms],
        "comparisons": [_comparison_values(one) for one in convergence.comparisons],
        "without_dice": list(convergence.without_dice),
        "rules": convergence_rules(convergence.reference_arm),
    }


def _run_values(one: RunConvergence) -> dict[str, Any]:
    values = {
        "fraction": one.run.fraction,
        "arm": one.run.arm,
        "fold": one.run.fold,
        "seed": one.run.seed,
        "validations": one.validations,
        "last_iteration": int(one.last),
        "last_epoch": finite_or_none(one.epochs(one.last)),
        "peak_dice": one.peak,
        "peak_epoch": finite_or_none(one.epochs(one.peak_iteration)),
        "averaged_validations": one.window,
    }
    for kind, arrival in (("", one.recorded), ("_smoothed", one.smoothed)):
        values |= _arrival_values(one, arrival, kind)
    return values


def _arrival_values(one: RunConvergence, arrival: Arrival, kind: str) -> dict[str, Any]:
    return {
        f"final_dice{kind}": arrival.final,
        f"reference_final_dice{kind}": finite_or_none(arrival.target),
        f"epochs_to_reference{kind}": finite_or_none(one.epochs(arrival.iteration)),
        f"iterations_to_reference{kind}": finite_or_none(arrival.iteration),
        f"status{kind}": arrival.status,
    }


def _arm_values(row: ArmConvergence) -> dict[str, Any]:
    return {
        "fraction": row.fraction,
        "arm": row.arm,
        "runs": row.runs,
        "planned_runs": row.planned,
        "final_dice": finite_or_none(row.final),
        "peak_dice": finite_or_none(row.peak),
        "peak_epoch": finite_or_none(row.peak_epoch),
        "pairs": row.pairs,
        "reached": row.reached,
        "epochs_to_reference_smoothed": finite_or_none(row.epochs),
        "is_lower_bound": row.reached < row.pairs,
    }


def _comparison_values(one: RunComparison) -> dict[str, Any]:
    difference = one.test.difference
    return {
        "measure": one.measure,
        "fraction": one.fraction,
        "arm": one.arm,
        "against": one.against,
        "difference": finite_or_none(difference.mean),
        "low": finite_or_none(difference.low),
        "high": finite_or_none(difference.high),
        "pairs": difference.groups,
        "unpaired": one.test.unpaired,
        "lower_bounds": one.lower_bounds,
        "p": finite_or_none(one.test.p),
        "p_holm": finite_or_none(one.p_holm),
        "smallest_p": finite_or_none(one.test.smallest_p),
        "smallest_p_holm": finite_or_none(one.smallest_p_holm),
        "family": one.family,
        "verdict": one.verdict,
    }
