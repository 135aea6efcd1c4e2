"""What a ``_target_`` of a config names, and the arguments that it takes."""

import inspect
from collections.abc import Mapping
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ConfigParser

__all__ = ["component_name", "component_parameters", "located"]


def component_name(target: str, parser: ConfigParser) -> str:
    """Full name of a component: one that is named without its module is looked up among MONAI's."""
    module = parser.locator.get_component_module_name(target)
    module = module[0] if isinstance(module, list) else module
    return target if module is None else f"{module}.{target}"


def located(target: str, parser: ConfigParser) -> Any:
    """The class or function that a ``_target_`` names, after importing its module; None if there is none.

    Raises:
        ImportError: if its module needs a package that is not installed.
    """
    try:
        return locate(component_name(target, parser))
    except ErrorDuringImport as error:
        raise ImportError(f"{error.value}") from error


def component_parameters(component: Mapping[str, Any], parser: ConfigParser) -> Mapping[str, inspect.Parameter] | None:
    """Parameters of a component; None if that cannot be found out."""
    try:
        return inspect.signature(located(str(component["_target_"]), parser)).parameters
    except (TypeError, ValueError, ImportError):
        return None
