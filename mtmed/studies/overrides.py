"""Which value each key of a step has in an arm, after everything that may set it."""

import re
from collections.abc import Mapping
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.step_config import StepConfig
from mtmed.studies.study import Study
from mtmed.studies.study_file import nearest

__all__ = ["PLACEHOLDER", "resolve_overrides", "steps_named"]

PLACEHOLDER = re.compile(r"\{([A-Za-z]\w*)\}")
"""``{name}`` in a value: an input of the study, or the output folder of the run's step of that name."""

_SET_BY_STUDY = ("output_dir", "new", "config_file")


def resolve_overrides(study: Study, configs: Mapping[str, StepConfig]) -> dict[str, dict[str, dict[str, Any]]]:
    """Overrides per arm and step, without what varies.

    Later ones win: the study's, the step's, the arm's, those of the command line. ``null`` brings back a
    key's default. Inputs are put in place of their placeholders; placeholders of steps stay.

    Args:
        study: the study.
        configs: the config of each step.

    Returns:
        Per arm the steps that it has, in order, each with its overrides.

    Raises:
        InputError: for a key that no config has or that the study sets itself, a placeholder that names nothing, or a
            step that is needed and left out or comes later.
    """
    _check_keys(study, configs)
    used: set[str] = set()
    resolved: dict[str, dict[str, dict[str, Any]]] = {}
    for arm, of_arm in study.arms.items():
        kept = [name for name in study.steps if of_arm.get(name, {}) is not None]
        if study.score_step not in kept:
            problem = f"leaves out {study.score_step!r}, which is scored"
            raise InputError(f"{study.file}: arms::{arm}", problem, "keep that step")
        resolved[arm] = {}
        for name in kept:
            merged: dict[str, Any] = {}
            for layer in _layers(study, configs[name], name, of_arm.get(name) or {}):
                merged.update({key.replace("#", "::"): value for key, value in layer.items()})
            values = {key: value for key, value in merged.items() if value is not None}
            used |= _names(values)
            earlier = kept[: kept.index(name)]
            _check_placeholders(study, arm, name, values, earlier)
            resolved[arm][name] = {key: _with_inputs(value, study.inputs) for key, value in values.items()}
        _check_all_used(study, arm, resolved[arm])
    if unused := [name for name in study.inputs if name not in used]:
        problem = "is an input that no step uses"
        raise InputError(f"{study.file}: inputs::{unused[0]}", problem, f"write {{{unused[0]}}} where it belongs")
    return resolved


def _layers(study: Study, config: StepConfig, step: str, of_arm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    everywhere = {key: value for key, value in study.overrides.items() if config.has(key)}
    given = {s.key: s.value for s in study.settings if s.step is None and config.has(s.key)}
    here = {s.key: s.value for s in study.settings if s.step == step}
    return [everywhere, study.steps[step].overrides, of_arm, given, here]


def _check_keys(study: Study, configs: Mapping[str, StepConfig]) -> None:
    asked: list[tuple[str, str | None, str]]
    asked = [(f"{study.file}: overrides", None, key) for key in study.overrides]
    asked += [("--set", setting.step, setting.key) for setting in study.settings]
    for name, step in study.steps.items():
        asked += [(f"{study.file}: steps::{name}::overrides", name, key) for key in step.overrides]
    for arm, of_arm in study.arms.items():
        asked += [
            (f"{study.file}: arms::{arm}::{name}", name, key) for name, keys in of_arm.items() for key in keys or ()
        ]
    for source, only, key in asked:
        varied = {name for step in study.steps.values() if only in (None, step.name) for name in step.vary}
        if key in _SET_BY_STUDY or key in varied:
            raise InputError(f"{source}: {key}", "is set by the study itself", "take it out")
        if only is not None:
            configs[only].check_override(key, source)
        elif not any(config.has(key) for config in configs.values()):
            known = sorted({str(item) for config in configs.values() for item in config.content} | set(study.inputs))
            raise InputError(f"{source}: {key}", "no step's config has such a key", nearest(key, known))


def _check_placeholders(study: Study, arm: str, step: str, values: Mapping[str, Any], earlier: list[str]) -> None:
    for name in sorted(_names(values)):
        if name in earlier or name in study.inputs:
            continue
        culprit = f"{study.file}: arms::{arm}::{step}"
        if name not in study.steps:
            problem = f"has the placeholder {{{name}}}, which is neither an earlier step nor an input"
            raise InputError(culprit, problem, nearest(name, [*earlier, *study.inputs]))
        if study.arms[arm].get(name, {}) is None:
            problem = f"needs the step {name!r}, which this arm leaves out"
            raise InputError(culprit, problem, "override the key that needs it, or set it to null")
        raise InputError(culprit, f"needs the step {name!r}, which comes later", "put the steps in order")


def _check_all_used(study: Study, arm: str, steps: Mapping[str, Mapping[str, Any]]) -> None:
    """A step that needs nothing and that nothing needs is a slip: mostly a pre-training that nobody continues."""
    needed = {name for values in steps.values() for name in steps_named(values, steps)}
    for name, values in steps.items():
        if name not in needed and name != study.score_step and not steps_named(values, steps):
            problem = f"runs the step {name!r}, which no other step uses"
            raise InputError(
                f"{study.file}: arms::{arm}", problem, f"use {{{name}}} in a later step, or set it to null"
            )


def steps_named(values: Any, steps: Mapping[str, Any]) -> list[str]:
    """The steps whose placeholders stand in values, in the order of the steps."""
    names = _names(values)
    return [name for name in steps if name in names]


def _names(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(PLACEHOLDER.findall(value))
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return {name for item in items for name in _names(item)}


def _with_inputs(value: Any, inputs: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _with_inputs(item, inputs) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_inputs(item, inputs) for item in value]
    if not isinstance(value, str):
        return value
    whole = PLACEHOLDER.fullmatch(value)
    if whole and whole[1] in inputs:
        return inputs[whole[1]]
    return PLACEHOLDER.sub(lambda found: str(inputs.get(found[1], found[0])), value)
