"""What a chain of transforms computes, as text: the same text if and only if nothing that matters has changed."""

import enum
import functools
import hashlib
import inspect
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import Compose, Randomizable

from mtmed.errors import InputError

__all__ = ["fingerprint"]

_REMEDY = "use a class or a function of a module"
_VERSIONED = ("monai", "torch", "numpy", "builtins")  # their version stands for their source
_WORKING = ("transforms", "inferers", "networks")  # packages of mtmed that preprocessing runs through


def fingerprint(value: object) -> str:
    """Describe a transform by its class, that class's source or version, and its attributes, recursively.

    For a class of mtmed the sources of its packages ``transforms``, ``inferers`` and ``networks`` count too, since a
    class calls others. Attributes that a class names in ``not_in_fingerprint`` are left out: what says where it works
    and not what it computes.

    Args:
        value: a transform, or a list of them.

    Returns:
        64 hexadecimal digits (SHA-256).

    Raises:
        InputError: part of it has no stable description (a lambda, a nested function, an open file), or it is a
            random transform, which must not be frozen into a store.
    """
    text = f"monai {monai.__version__} {_describe(value, ())}"
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(value: Any, parents: tuple[int, ...]) -> str:
    if id(value) in parents:
        return f"<parent {len(parents) - parents.index(id(value))}>"
    inner = (*parents, id(value))
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | Path | slice):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, enum.Enum):
        return f"{_qualified(type(value))}.{value.name}"
    if isinstance(value, np.generic | torch.dtype | torch.device | np.dtype):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, np.ndarray | torch.Tensor):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        return f"array:{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        items = sorted((_describe(k, inner), _describe(v, inner)) for k, v in value.items())
        return f"{{{', '.join(f'{k}: {v}' for k, v in items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_describe(item, inner) for item in value)}]"
    if isinstance(value, set | frozenset):
        return f"set{sorted(_describe(item, inner) for item in value)}"
    if isinstance(value, functools.partial):
        return f"partial({_describe([value.func, value.args, value.keywords], inner)})"
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | np.ufunc):
        return _qualified(value)
    if isinstance(value, types.MethodType):
        return f"{_describe(value.__self__, inner)}.{value.__func__.__name__}"
    return _describe_object(value, inner)


def _describe_object(value: Any, inner: tuple[int, ...]) -> str:
    if isinstance(value, Randomizable) and not isinstance(value, Compose):
        raise InputError(
            type(value).__name__,
            "is a random transform, which the volume store would freeze",
            "move it from the preprocessing to the augmentation",
        )
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        raise InputError(type(value).__name__, "has no attributes by which to recognise a change of it", _REMEDY)
    left_out = getattr(type(value), "not_in_fingerprint", ())
    kept = {
        k: v
        for k, v in attributes.items()
        if k not in left_out and not isinstance(v, np.random.RandomState | np.random.Generator)
    }
    return f"{_qualified(type(value))}({_describe(kept, inner)})"


def _qualified(value: Any) -> str:
    module, name = getattr(value, "__module__", None) or "numpy", getattr(value, "__qualname__", value.__name__)
    if "<lambda>" in name or "<locals>" in name:
        raise InputError(f"{module}.{name}", "is a lambda or nested function, so a change of it goes unseen", _REMEDY)
    if module.split(".")[0] in _VERSIONED:
        return f"{module}.{name}"
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):
        source = ""
    packages = _own_sources() if module.split(".")[0] == "mtmed" else ""
    return f"{module}.{name}#{hashlib.sha256((source + packages).encode()).hexdigest()}"


@functools.cache
def _own_sources() -> str:
    """Hash of the code of mtmed's working packages."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for file in sorted(file for package in _WORKING for file in (root / package).glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
