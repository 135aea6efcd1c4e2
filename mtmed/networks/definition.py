"""A network's literal definition: which class, with which plain values.

The definition travels in every checkpoint, so that fine-tuning, inference and export rebuild exactly the network that
was trained. It is data, not a program: only network classes may be named in it, and only plain values may be arguments.
"""

import inspect
from collections.abc import Mapping
from pydoc import locate
from typing import Any

from torch import nn

from mtmed.errors import InputError

__all__ = ["build_network", "is_plain", "network_definition"]

_ALLOWED_PACKAGES = ("mtmed.networks.", "monai.networks.nets.")
_FETCHING = ("pretrained", "pretrained_url", "weights", "path_or_repo_id")


def is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, text, None, lists, and dictionaries with text as keys: what JSON can hold."""
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def _own(network_class: type) -> bool:
    """Whether a class is defined in an allowed package: modules there have the names of others, such as ``nn``."""
    return f"{network_class.__module__}.".startswith(_ALLOWED_PACKAGES)


def _fetches(network_class: type, arguments: Mapping[str, Any]) -> list[str]:
    """Arguments by which a class of MONAI downloads weights, as given or by default."""
    parameters = inspect.signature(network_class).parameters
    asked = {name: arguments.get(name, parameter.default) for name, parameter in parameters.items()} | dict(arguments)
    return [name for name in _FETCHING if asked.get(name)]


def _plain_copy(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain_copy(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain_copy(item) for key, item in value.items()}
    return value


def build_network(definition: Mapping[str, Any], *, source: str = "network_def", from_file: bool = False) -> nn.Module:
    """Build a network from its literal definition and let it remember it.

    Arguments that a class lists in ``start_arguments`` say which weights it starts from. They are not remembered, since
    a network that is built again gets the weights it has learned.

    Args:
        definition: ``{"_target_": "mtmed.networks.UNETR", argument: plain value, ...}``.
        source: file or key the definition comes from, for messages.
        from_file: the definition is that of a weights file, which may come from anybody: ``start_arguments`` and those
            of MONAI's classes that read files or download are refused.

    Raises:
        InputError: if the class is not a network of mtmed or MONAI, an argument is not a plain value, or the class does
            not accept the arguments; as the class has it where it says what a user can mend.
    """
    arguments = {key: value for key, value in definition.items() if not (key.startswith("_") and key.endswith("_"))}
    target = definition.get("_target_", "")
    network_class = locate(target) if isinstance(target, str) and target.startswith(_ALLOWED_PACKAGES) else None
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module) and _own(network_class)):
        allowed = " or ".join(f"{package}*" for package in _ALLOWED_PACKAGES)
        raise InputError(source, f"_target_ is {target!r}, which is not a network ({allowed})", "name a network class")
    for key, value in arguments.items():
        if not is_plain(value):
            raise InputError(source, f"{key} is {value!r}", "give plain numbers, strings, lists or null")
    start = getattr(network_class, "start_arguments", ())
    if from_file and (named := sorted({*arguments.keys() & set(start), *_fetches(network_class, arguments)})):
        problem = f"its network_def names {named[0]}, where a network to be trained starts from"
        raise InputError(source, problem, "use a file that mtmed wrote")
    try:
        network = network_class(**arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]  # torch's messages go on with the lines of its C++
        raise InputError(source, reason.rstrip("."), f"correct the arguments of {target}") from error
    # past nn.Module's attribute machinery, so that scripting and state_dict do not see it
    remembered = {key: value for key, value in arguments.items() if key not in start}
    object.__setattr__(network, "definition", {"_target_": target, **_plain_copy(remembered)})
    return network


def network_definition(network: nn.Module) -> dict[str, Any]:
    """Definition of a network made by `build_network`.

    Raises:
        InputError: if the network was made in another way and so does not know its definition.
    """
    definition = getattr(network, "definition", None)
    if definition is None:
        raise InputError(
            type(network).__name__, "does not know its definition", "make it with mtmed.networks.build_network"
        )
    return dict(definition)
