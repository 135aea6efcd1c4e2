"""What a study may not ask for, seen from its lists, its folds and its arms."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.job import Run
from mtmed.studies.step_config import StepConfig
from mtmed.studies.study import VARIED, Study

__all__ = ["check_arms", "check_folds", "check_lists"]


def check_lists(study: Study) -> None:
    """Refuse a list of several folds, fractions or seeds that varies nothing."""
    for name, plural in VARIED.items():
        values = getattr(study, plural)
        # what only the scored step is given changes no network
        steps = [
            s for s in study.steps.values() if name == "fold" or len(study.steps) == 1 or s.name != study.score_step
        ]
        if len(values) > 1 and not any(name in step.vary for step in steps):
            before = "" if name == "fold" else f" before {study.score_step}"
            problem = f"has {len(values)} values, but no step{before} varies with {name}"
            raise InputError(f"{study.file}: {plural}", problem, f"add {name!r} to the vary of a step")


def check_folds(
    study: Study, configs: Mapping[str, StepConfig], overrides: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> None:
    """Refuse a fold that a config does not have."""
    for arm, steps in overrides.items():
        for step, given in steps.items():
            count = given.get("folds", configs[step].get("folds"))
            highest = max((fold for fold in study.folds if isinstance(fold, int)), default=0)
            if "fold" in study.steps[step].vary and isinstance(count, int) and highest >= count:
                problem = f"has fold {highest}, but {step} of {arm} divides into {count} folds, counted from 0"
                raise InputError(f"{study.file}: folds", problem, "change the list, or the config's key folds")


def check_arms(study: Study, runs: Sequence[Run]) -> None:
    """Refuse two arms of which one is enough, because what is scored is the same."""
    jobs = {arm: [run.jobs for run in runs if run.arm == arm] for arm in study.arms}
    scored = {
        arm: {of_run[study.score_step] for of_run in own}
        for arm, own in jobs.items()
        if own and study.score_step in own[0]
    }
    for one, other in itertools.combinations(scored, 2):
        if scored[one] == scored[other]:
            problem = f"{one!r} and {other!r} run the same commands"
            raise InputError(f"{study.file}: arms", problem, "take one out; if --set made them equal, take that out")
