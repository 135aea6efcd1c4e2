"""Which value each key of a step has in an arm, after everything that may set it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.file_values import nearest
from mtmed.studies.references import PLACEHOLDER, ArmStep, placeholders
from mtmed.studies.running_steps import running_steps
from mtmed.studies.step_config import StepConfig
from mtmed.studies.study import Study

__all__ = ["resolve_overrides"]

_SET_BY_STUDY = ("output_dir", "new", "config_file")


def resolve_overrides(study: Study, configs: Mapping[str, StepConfig]) -> dict[str, dict[str, dict[str, Any]]]:
    """Overrides per arm and step, without what varies.

    Later ones win: the study's, the step's, the arm's, those of the command line. What names no step is for all that
    decide the key themselves, not for those that take it from a checkpoint. ``null`` brings back a key's default.
    Inputs are put in place of their placeholders; placeholders of steps and choices stay.

    Args:
        study: the study.
        configs: the config of each step.

    Returns:
        Per arm the steps that it runs, in order, each with its overrides.

    Raises:
        InputError: for a key that no config has or that the study sets itself, or an input that no step uses; see also
            `running_steps`.
    """
    _check_keys(study, configs)
    values = {
        arm: {
            name: _merged(_layers(study, configs[name], name, of_arm.get(name) or {}))
            for name in study.steps
            if of_arm.get(name, {}) is not None
        }
        for arm, of_arm in study.arms.items()
    }
    running = running_steps(study, values)
    used = {name for arm, step in running for name in placeholders(values[arm][step])}
    if unused := [name for name in study.inputs if name not in used]:
        problem = "is an input that no step uses"
        raise InputError(f"{study.file}: inputs::{unused[0]}", problem, f"write {{{unused[0]}}} where it belongs")
    return {
        arm: {
            name: {key: _with_inputs(value, study.inputs) for key, value in given.items()}
            for name, given in steps.items()
            if ArmStep(arm, name) in running
        }
        for arm, steps in values.items()
    }


def _merged(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged = {key.replace("#", "::"): value for layer in layers for key, value in layer.items()}
    return {key: value for key, value in merged.items() if value is not None}


def _layers(study: Study, config: StepConfig, step: str, of_arm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    everywhere = {key: value for key, value in study.overrides.items() if config.decides(key)}
    given = {s.key: s.value for s in study.settings if s.step is None and config.decides(s.key)}
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
        elif not any(config.decides(key) for config in configs.values()):
            if reading := [name for name, config in configs.items() if config.has(key)]:
                raise InputError(
                    f"{source}: {key}", "is read from the checkpoint", f"set {reading[0]}.{key} if that is meant"
                )
            known = sorted({str(item) for config in configs.values() for item in config.content} | set(study.inputs))
            raise InputError(f"{source}: {key}", "no step's config has such a key", nearest(key, known))


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
