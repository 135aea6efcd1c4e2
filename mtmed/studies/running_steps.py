"""Which steps an arm runs: those that are scored or compared, and what these read, in this arm or through others."""

from collections.abc import Mapping
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.file_values import nearest
from mtmed.studies.references import ArmStep, placeholders, sources, steps_named
from mtmed.studies.study import Study

__all__ = ["running_steps"]


def running_steps(study: Study, values: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> set[ArmStep]:
    """Follow the placeholders from the scored steps and the choices.

    Args:
        study: the study.
        values: per arm and step, for all steps that the arm does not leave out, its values with their placeholders.

    Returns:
        The steps that run; all others are left out.

    Raises:
        InputError: for a placeholder that names nothing or a step that is left out or comes later, steps that wait for
            each other, an arm that is neither scored nor read, values for a step that will not run, or a step that no
            arm runs.
    """
    scored = [ArmStep(arm, step) for arm in values for step in (study.score_step, *study.also_scored)]
    compared = [ArmStep(arm, choice.step) for choice in study.choices.values() for arm in choice.among]
    found: set[ArmStep] = set()
    for node in [*scored, *compared]:
        if node.step in values[node.arm]:
            _visit(node, (), found, study, values)
    _check_arms(study, values, found)
    for arm, of_arm in study.arms.items():
        for step, given in of_arm.items():
            if given and ArmStep(arm, step) not in found:
                problem = f"sets {', '.join(given)} of a step that no scored step of this arm reads"
                raise InputError(
                    f"{study.file}: arms::{arm}::{step}", problem, f"write {{{step}}} in a later step, or take it out"
                )
    for step in study.steps:
        asked = [arm for arm in values if step in values[arm]]
        if asked and not any(ArmStep(arm, step) in found for arm in asked):
            problem = "runs in no arm, because no scored step reads it"
            raise InputError(
                f"{study.file}: steps::{step}",
                problem,
                f"use {{{step}}} in a later step, or set it to null in all arms",
            )
    return found


def _visit(
    node: ArmStep,
    path: tuple[ArmStep, ...],
    found: set[ArmStep],
    study: Study,
    values: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> None:
    if node in path:
        circle = " reads ".join(".".join(one) for one in (*path[path.index(node) :], node))
        culprit = f"{study.file}: arms::{node.arm}::{node.step}"
        raise InputError(culprit, f"waits for itself: {circle}", "let one of them read something else")
    if node in found:
        return
    _check_placeholders(study, node, values)
    for name in steps_named(values[node.arm][node.step], study):
        for source in sources(name, node.arm, study):
            _visit(source, (*path, node), found, study, values)
    found.add(node)


def _check_placeholders(study: Study, node: ArmStep, values: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    kept = list(values[node.arm])
    earlier = kept[: kept.index(node.step)]
    culprit = f"{study.file}: arms::{node.arm}::{node.step}"
    for name in sorted(placeholders(values[node.arm][node.step])):
        owner, dot, step = name.partition(".")
        if dot:
            _check_dotted(study, culprit, name, owner, step, values)
        elif name not in (*earlier, *study.inputs):
            if name not in study.steps:
                problem = f"has the placeholder {{{name}}}, which is neither an earlier step nor an input"
                dotted = [f"{choice.name}.{choice.step}" for choice in study.choices.values()]
                raise InputError(culprit, problem, nearest(name, [*earlier, *study.inputs, *dotted]))
            if name not in kept:
                problem = f"needs the step {name!r}, which this arm leaves out"
                raise InputError(culprit, problem, "override the key that needs it, or set it to null")
            raise InputError(culprit, f"needs the step {name!r}, which comes later", "put the steps in order")


def _check_dotted(
    study: Study,
    culprit: str,
    name: str,
    owner: str,
    step: str,
    values: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> None:
    problem = f"has the placeholder {{{name}}}"
    if owner in study.choices:
        if step != (compared := study.choices[owner].step):
            problem = f"{problem}, but the choice {owner!r} compares the step {compared!r}"
            raise InputError(culprit, problem, f"write {{{owner}.{compared}}}")
    elif owner not in study.arms:
        remedy = nearest(owner, [*study.choices, *study.arms])
        raise InputError(culprit, f"{problem}, and {owner!r} is neither an arm nor a choice", remedy)
    elif step not in study.steps:
        raise InputError(culprit, f"{problem}, and {step!r} is not a step", nearest(step, list(study.steps)))
    elif step not in values[owner]:
        problem = f"{problem}, and the arm {owner!r} leaves out the step {step!r}"
        raise InputError(culprit, problem, "keep that step in the arm")


def _check_arms(study: Study, values: Mapping[str, Mapping[str, Mapping[str, Any]]], found: set[ArmStep]) -> None:
    """An arm that is not scored is there for others."""
    compared = {arm for choice in study.choices.values() for arm in choice.among}
    for arm in values:
        if ArmStep(arm, study.score_step) in found or arm in compared:
            continue
        if not any(node.arm == arm and node.step not in study.also_scored for node in found):
            problem = f"leaves out {study.score_step!r}, which is scored"
            raise InputError(f"{study.file}: arms::{arm}", problem, "keep that step")
