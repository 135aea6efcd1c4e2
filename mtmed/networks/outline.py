"""The shapes of a network that a weights file defines, before memory is given to it.

Anybody may have written the file. A number in its definition may ask for more layers or channels than any memory holds,
of which the file has no tensor.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from mtmed.errors import InputError
from mtmed.networks.definition import build_network

__all__ = ["outlined_shapes"]

_LARGEST = 2**16  # of all channels, sides and numbers of layers
_LAYERS_PER_TENSOR = 30  # those without a tensor, such as activations and dropout, and containers
_REMEDY = "use a file that mtmed wrote"


def outlined_shapes(definition: Mapping[str, Any], tensors: int, *, source: str) -> dict[str, torch.Size] | None:
    """Shapes of the tensors of a network, which is built without memory for them.

    Args:
        definition: see `build_network`.
        tensors: how many the file holds.
        source: the file, for messages.

    Returns:
        Shape of each tensor by its name; None if the class computes with numbers while it is built and so cannot be
        built without them.

    Raises:
        InputError: as `build_network`; or the definition has a number above 65536, asks for many more layers than the
            file has tensors, or the class does not accept it.
    """
    _refuse_large(definition, source)
    try:
        with torch.device("meta"), _bounded_layers(tensors, source):
            network = build_network(definition, source=source, from_file=True)
    except InputError:
        raise
    except Exception as error:  # any class of MONAI, whose constructors check little, with arguments of anybody
        if "meta" in str(error):
            return None
        problem = f"its network_def is not accepted by its class ({type(error).__name__})"
        raise InputError(source, problem, _REMEDY) from error
    return {name: value.shape for name, value in network.state_dict().items()}


def _refuse_large(value: Any, source: str) -> None:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_large(item, source)
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise InputError(source, f"its network_def has a number beyond {_LARGEST}", _REMEDY)


@contextmanager
def _bounded_layers(tensors: int, source: str) -> Iterator[None]:
    most, found = _LAYERS_PER_TENSOR * (tensors + 1), 0

    def count(module: nn.Module, name: str, inner: nn.Module | None) -> None:
        nonlocal found
        found += 1
        if found > most:
            raise InputError(source, f"its network_def makes over {most} layers for {tensors} tensors", _REMEDY)

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
