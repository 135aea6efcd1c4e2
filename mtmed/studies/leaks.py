"""No run may learn from the cases that it is scored on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.references import ArmStep, placeholders, upstream
from mtmed.studies.step_config import StepConfig
from mtmed.studies.study import Study

__all__ = ["check_leaks"]

_SPLIT_KEYS = ("folds", "shares", "split_key", "split_seed")


def check_leaks(
    study: Study, configs: Mapping[str, StepConfig], overrides: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> None:
    """Look at every step that a scored step depends on and that reads the same ``dataset_dir``.

    It may depend on steps of other arms, and through a choice on those of all arms that are compared. Such a step must
    vary with the fold if and only if the scored step does, divide the data as that one does (into folds, or by shares
    that rotate with the fold) and take the same fraction of the labels; or say in ``shared_by_folds`` why it may read
    all cases, for example because it uses no labels. Data sets are the same if their values are equal or one folder
    lies in the other; copies of a data set are not recognised.

    An arm that reads a choice is not scored on the part of the data called validation, where choices are made.

    Raises:
        InputError: naming the step.
    """
    for scored in (study.score_step, *study.also_scored):
        _check_scored(study, scored, configs, overrides)


def _check_scored(
    study: Study,
    scored: str,
    configs: Mapping[str, StepConfig],
    overrides: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> None:
    by_fold = "fold" in study.steps[scored].vary

    def value(node: ArmStep, key: str) -> Any:
        return overrides[node.arm][node.step].get(key, configs[node.step].get(key))

    for target in (ArmStep(arm, scored) for arm, steps in overrides.items() if scored in steps):
        needed = upstream(target, overrides, study)
        if value(target, "part") == "validation":
            _refuse_chosen(study, [target, *needed], overrides)
        for node in needed:
            arm, name = node
            same_data = _overlap(value(node, "dataset_dir"), value(target, "dataset_dir"))
            if not same_data or study.steps[name].shared_by_folds is not None:
                continue
            culprit = f"{study.file}: steps::{name}"
            varies = "fold" in study.steps[name].vary
            has_fold = varies or configs[name].has("fold")
            if (by_fold and not varies) or not has_fold:
                problem = f"in arm {arm!r}, reads the data that {scored} validates, the same cases for all folds"
                remedy = "give it other data, or say in its 'shared_by_folds' why it may"
                if configs[name].has("fold"):
                    remedy = f"add 'fold' to its vary, {remedy}"
                raise InputError(culprit, problem, remedy)
            if varies and not by_fold:
                problem = f"varies with the fold and {scored} does not: it would train on validated cases"
                raise InputError(culprit, problem, f"add 'fold' to the vary of {scored}")
            if "none" in (study.folds if varies else [value(node, "fold")]):
                problem = f"in arm {arm!r}, trains with fold 'none' on all cases, those that {scored} scores among them"
                raise InputError(culprit, problem, "take that fold out, or score other data")
            if configs[name].has("fraction") and configs[scored].has("fraction"):
                one, other = (
                    study.fractions if "fraction" in study.steps[place.step].vary else (value(place, "fraction"),)
                    for place in (node, target)
                )
                if tuple(one) != tuple(other):
                    problem = f"in arm {arm!r}, has fraction {_listed(one)} and {scored} has {_listed(other)}"
                    raise InputError(culprit, problem, "let both vary with the fraction, or make them equal")
            rotates = [configs[step].has("shares") for step in (name, scored)]
            if configs[scored].has("fold") and rotates[0] != rotates[1]:
                with_shares, without = (name, scored) if rotates[0] else (scored, name)
                problem = f"in arm {arm!r}, {with_shares} divides by 'shares' and {without} by 'folds'"
                raise InputError(culprit, f"{problem}: it would train on scored cases", "divide the data alike")
            for key in _SPLIT_KEYS if varies else ("fold", *_SPLIT_KEYS):
                one, other = value(node, key), value(target, key)
                if configs[name].has(key) and configs[scored].has(key) and one != other:
                    problem = f"in arm {arm!r}, has {key} {one!r} and {scored} has {other!r}"
                    raise InputError(culprit, f"{problem}: it would train on validated cases", "make them equal")


def _refuse_chosen(
    study: Study, nodes: Sequence[ArmStep], overrides: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> None:
    """Refuse to score on validation what was chosen there."""
    for arm, step in nodes:
        named = {name.partition(".")[0] for name in placeholders(overrides[arm][step])} & set(study.choices)
        if named:
            culprit = f"{study.file}: arms::{nodes[0].arm}::{nodes[0].step}"
            problem = f"scores the validation part, on which the choice {min(named)!r} was made"
            raise InputError(culprit, problem, "score other cases, for example part test")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _overlap(one: Any, other: Any) -> bool:
    for first in one if isinstance(one, list) else [one]:
        for second in other if isinstance(other, list) else [other]:
            if first is None or second is None:
                continue
            if first == second:
                return True
            if any(not isinstance(item, str) or item.startswith(("$", "@")) for item in (first, second)):
                continue
            paths = [Path(item).expanduser().resolve() for item in (first, second)]
            if paths[0].is_relative_to(paths[1]) or paths[1].is_relative_to(paths[0]):
                return True
    return False
