"""Components of a config that are not there, or are given arguments that they do not take."""

import difflib
import importlib
from collections.abc import Iterator, Mapping
from inspect import Parameter
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent

from mtmed.bundle.component import component_name, component_parameters, located
from mtmed.checking.entries import entries
from mtmed.checking.problem import Problem

__all__ = ["component_problems", "nearest"]

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def component_problems(config: Mapping[str, Any], parser: ConfigParser) -> Iterator[Problem]:
    """List every ``_target_`` that cannot be located, and every argument that is unknown or lacking.

    The modules of the components are imported, nothing is called.
    """
    for identifier, entry in entries(config):
        if not isinstance(entry, Mapping) or "_target_" not in entry:
            continue
        target = entry["_target_"]
        if not isinstance(target, str):
            yield Problem("component", identifier, f"_target_ is {target!r}, no name", "name a class or function")
            continue
        if target.startswith(("$", "@", "%")):
            continue
        try:
            found = located(target, parser)
        except ImportError as error:
            yield Problem("component", identifier, f"{target} cannot be imported ({error})", "install what is missing")
            continue
        if found is None:
            remedy = nearest(component_name(target, parser), parser)
            yield Problem("component", identifier, f"there is no class or function {target}", remedy)
            continue
        yield from _argument_problems(identifier, entry, target, component_parameters(entry, parser))


def _argument_problems(
    identifier: str, entry: Mapping[str, Any], target: str, parameters: Mapping[str, Parameter] | None
) -> Iterator[Problem]:
    if parameters is None:
        return
    given = [key for key in entry if key not in ConfigComponent.non_arg_keys]
    taken = [name for name, parameter in parameters.items() if parameter.kind in _NAMED]
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in given:
            if key not in taken:
                near = difflib.get_close_matches(key, taken, n=1)
                remedy = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(taken) or 'none'}"
                yield Problem("component", f"{identifier}::{key}", f"{target} takes no such argument", remedy)
    if entry.get("_mode_", "default") != "default":
        return
    for name in taken:
        if parameters[name].default is Parameter.empty and name not in given:
            yield Problem("component", identifier, f"{target} needs {name!r}", f"give {name}")


def nearest(target: str, parser: ConfigParser) -> str:
    """What may have been meant by a name that is not there, as a remedy."""
    module, _, name = target.rpartition(".")
    if not module:
        parser.locator.get_component_module_name("")  # fills the table
        names = parser.locator._components_table or {}
        near = difflib.get_close_matches(name, names, n=1)
        return f"did you mean {near[0]!r}?" if near else "correct _target_, or name its module"
    while module:
        try:
            known = dir(importlib.import_module(module))
        except (ImportError, ValueError):
            module, _, name = module.rpartition(".")
            continue
        near = difflib.get_close_matches(name, known, n=1)
        return f"did you mean '{module}.{near[0]}'?" if near else f"{module} has no {name!r}: correct it"
    return f"install the package {target.partition('.')[0]}, or correct the name"
