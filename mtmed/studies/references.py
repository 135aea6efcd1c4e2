"""What the placeholders in values stand for: inputs, steps of the same arm, steps of other arms, and choices."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mtmed.studies.study import Study

__all__ = ["PLACEHOLDER", "ArmStep", "placeholders", "sources", "steps_named", "upstream"]

PLACEHOLDER = re.compile(r"\{([A-Za-z]\w*(?:\.[A-Za-z]\w*)?)\}")
"""An input of the study ``{name}``, or an output folder of the same fold, fraction and seed: of the arm's own step
``{step}``, of another arm's ``{arm.step}``, of the arm that a choice took ``{choice.step}``."""


class ArmStep(NamedTuple):
    """A step of an arm."""

    arm: str
    step: str


def placeholders(value: Any) -> set[str]:
    """The names between braces in a value, however deep."""
    if isinstance(value, str):
        return set(PLACEHOLDER.findall(value))
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return {name for item in items for name in placeholders(item)}


def steps_named(values: Any, study: Study) -> list[str]:
    """Placeholders of output folders in values: own steps in the order of the study, then others by name."""
    found = placeholders(values)
    return [name for name in study.steps if name in found] + sorted(name for name in found if "." in name)


def sources(name: str, arm: str, study: Study) -> tuple[ArmStep, ...]:
    """What a placeholder of an arm may read; of a choice, the steps of all arms that it compares."""
    owner, dot, step = name.partition(".")
    if not dot:
        return (ArmStep(arm, name),)
    if owner in study.choices:
        return tuple(ArmStep(candidate, step) for candidate in study.choices[owner].among)
    return (ArmStep(owner, step),)


def upstream(node: ArmStep, overrides: Mapping[str, Mapping[str, Mapping[str, Any]]], study: Study) -> list[ArmStep]:
    """All steps that one reads, directly or not, whatever a choice will take; each once."""
    found: dict[ArmStep, None] = {}
    open_nodes = [node]
    while open_nodes:
        arm, step = open_nodes.pop(0)
        for name in steps_named(overrides[arm][step], study):
            fresh = [source for source in sources(name, arm, study) if source not in found]
            found |= dict.fromkeys(fresh)
            open_nodes += fresh
    return list(found)
