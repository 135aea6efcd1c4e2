"""What the choices of a study compared and which arm won, as far as the trainings are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtmed.errors import InputError
from mtmed.metrics.names import METRIC_NAMES
from mtmed.metrics.tables import finite_or_none
from mtmed.studies.choose import CHOICE, mean_and_sd, read_best
from mtmed.studies.job import ChoiceJob
from mtmed.studies.numbers import number_text
from mtmed.studies.study_folder import StudyFolder

__all__ = ["CHOICE_RULE", "Candidate", "ChoiceResult", "choice_table", "choice_values", "collect_choices"]

CHOICE_RULE = (
    "value: the best of each training on its own validation cases, mean ± standard deviation over the random seeds;"
    " the arm with the highest mean is taken for all seeds, the first named of equal ones. No test: it is a choice, and"
    " says nothing of other cases"
)
"""How a choice is made; goes into every report that has one."""


@dataclass(frozen=True)
class Candidate:
    """One arm in one choice.

    Attributes:
        arm: name of the arm.
        values: by random seed; None where there is none yet.
        mean: over the seeds that have one, NaN without any.
        sd: their standard deviation (n - 1), NaN below two.
        won: whether the choice took it; None while that is open.
    """

    arm: str
    values: Mapping[int, float | None]
    mean: float
    sd: float
    won: bool | None


@dataclass(frozen=True)
class ChoiceResult:
    """One choice for one fold and label fraction.

    Attributes:
        name: name of the choice.
        title: heading of its table.
        step: the step that is compared.
        metric: what is compared; empty while no training has recorded it.
        varied: fold and fraction, if the arms vary with them.
        candidates: in the order of the study.
    """

    name: str
    title: str
    step: str
    metric: str
    varied: Mapping[str, Any]
    candidates: tuple[Candidate, ...]


def collect_choices(folder: StudyFolder) -> list[ChoiceResult]:
    """Every choice of a study, in the order of its file, whether made or not.

    What was chosen is read from the choice, also when the trainings were deleted since; before, the values are those of
    the trainings that are finished.
    """
    jobs = [job for job in folder.plan.jobs.values() if isinstance(job, ChoiceJob)]
    order = list(folder.plan.study.choices)
    return [_result(folder, job) for job in sorted(jobs, key=lambda job: order.index(job.step))]


def _result(folder: StudyFolder, job: ChoiceJob) -> ChoiceResult:
    made = _made(folder, job)
    metrics = {made["metric"]} if made else set()
    candidates = []
    for arm, keys in job.candidates.items():
        values: dict[int, float | None] = {}
        for seed, key in keys.items():
            if made:
                values[seed] = made["arms"][arm]["values"][str(seed)]
                continue
            values[seed] = None
            if folder.state(key) == "finished":
                try:
                    best = read_best(folder.output_dir(key))
                except InputError:  # the choice itself says so when it comes to it
                    continue
                values[seed] = best.value
                metrics.add(best.metric)
        mean, sd = mean_and_sd([value for value in values.values() if value is not None])
        candidates.append(Candidate(arm, values, mean, sd, made["winner"] == arm if made else None))
    title = folder.plan.study.choices[job.step].title
    return ChoiceResult(job.step, title, job.compared, ", ".join(sorted(metrics)), job.varied, tuple(candidates))


def _made(folder: StudyFolder, job: ChoiceJob) -> dict[str, Any]:
    """What the choice has written, if it is finished and of the arms and seeds of this study; else empty."""
    if folder.state(job.key) != "finished":
        return {}
    try:
        content: dict[str, Any] = json.loads((folder.output_dir(job.key) / CHOICE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def choice_table(choices: Sequence[ChoiceResult]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of one choice, over its folds and fractions."""
    keys = [key for key in ("fold", "fraction") if any(key in one.varied for one in choices)]
    names = {METRIC_NAMES.get(one.metric, one.metric.replace("_", " ")) for one in choices if one.metric}
    header = [*("labels" if key == "fraction" else key for key in keys), "arm"]
    header += [" / ".join(sorted(names)) or "value", "seeds", "result"]
    cells = []
    for one in choices:
        place = {"fold": str(one.varied.get("fold", "-")), "fraction": f"{one.varied.get('fraction', 100):g} %"}
        for row in one.candidates:
            spread = f"{number_text(row.mean, 3)} ± {number_text(row.sd, 3)}"
            there = sum(value is not None for value in row.values.values())
            result = "open" if row.won is None else "chosen" if row.won else ""
            count = f"{there} of {len(row.values)}"
            cells.append([*(place[key] for key in keys), row.arm, spread, count, result])
    return header, cells


def choice_values(choices: Sequence[ChoiceResult]) -> list[dict[str, Any]]:
    """A row of plain values per choice, fold, fraction and arm."""
    return [
        {
            "choice": one.name,
            "step": one.step,
            "metric": one.metric,
            "fold": one.varied.get("fold"),
            "fraction": one.varied.get("fraction"),
            "arm": row.arm,
            "mean": finite_or_none(row.mean),
            "sd": finite_or_none(row.sd),
            "chosen": row.won,
            "seeds": {str(seed): value for seed, value in row.values.items()},
        }
        for one in choices
        for row in one.candidates
    ]
