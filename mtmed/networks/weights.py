"""Weights files: what a network learned, with what is needed to build and feed it again.

A weights file holds ``model`` (the state of the network or of its encoder), ``network_def`` (its literal definition)
and ``settings`` (label names, modalities, spacing in mm, window in HU, patch size in voxels). Only tensors and plain
values, so that it loads with ``weights_only=True``.
"""

import errno
import functools
import hashlib
import logging
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtmed.errors import InputError
from mtmed.files import atomic_file, write_error
from mtmed.networks.archive import verify_archive
from mtmed.networks.definition import build_network, network_definition
from mtmed.networks.outline import outlined_shapes
from mtmed.networks.plain_tensor import is_plain_tensor
from mtmed.networks.released_weights import RELEASED, read_released

__all__ = [
    "atomic_save",
    "carried",
    "load_checkpoint",
    "load_network",
    "load_weights",
    "save_encoder",
    "save_network",
    "save_tensors",
    "sha256_of",
]

logger = logging.getLogger(__name__)

_WRAPPED = "module."
"""What the wrappers for several processes put before every name."""

# what torch's reader of pickles stumbles on in a file of anything else
_DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, struct.error),
    AssertionError,
)


def atomic_save(content: Any, path: str | Path) -> None:
    """Save with ``torch.save`` so that ``path`` always holds a whole file: the old one or the new one.

    Raises:
        InputError: if the folder cannot be written or the disk is full; the old file stays and no fragment is left.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        # torch's zip writer reports a failed write as a RuntimeError about positions
        full = OSError(errno.ENOSPC, str(error)) if "unexpected pos" in str(error) else error
        raise write_error(path, full) from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values, nothing else, with the checksums of all that it holds.

    Raises:
        InputError: if the file is missing, empty, damaged in a single bit, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file", "pass the path of a weights file (model.pt or encoder.pt of a run)")
    if path.stat().st_size == 0:
        raise InputError(path, "is empty", "copy it again or train again")
    verify_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(path, "holds more than tensors and plain values", "use a file that mtmed wrote") from error
    except _DAMAGED as error:
        raise InputError(path, "is damaged or not a weights file", "copy it again or train again") from error
    return content if isinstance(content, dict) else {}


def load_weights(path: str | Path) -> dict[str, Any]:
    """Read a weights file, of a run or released as safetensors: ``{"model", "network_def", "settings"}``.

    The prefix ``module.``, which wrappers of several processes put before every name, is taken off.

    Raises:
        InputError: if the file is missing, damaged, of another kind, or holds non-finite weights.
    """
    path = Path(path)
    content = read_released(path) if path.suffix == RELEASED else load_checkpoint(path)
    missing = [key for key in ("model", "network_def", "settings") if key not in content]
    if missing:
        raise InputError(path, f"has no {', '.join(missing)}", "pass model.pt or encoder.pt of a run")
    for key in ("model", "network_def", "settings"):
        if not isinstance(content[key], dict):
            raise InputError(path, f"its {key} is no dictionary", "use a file that mtmed wrote")
    for name, value in content["model"].items():
        if not (isinstance(name, str) and is_plain_tensor(value)):
            raise InputError(path, f"weight {name} is no dense tensor of numbers", "use a file that mtmed wrote")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(path, f"weight {name} is not finite", "use an earlier checkpoint")
    if any(name.startswith(_WRAPPED) for name in content["model"]):
        _notice_prefix(path)
        content["model"] = {name.removeprefix(_WRAPPED): value for name, value in content["model"].items()}
    return content


@functools.cache
def _notice_prefix(path: Path) -> None:
    """Once a file, since several settings of a run may be read from it."""
    logger.info("Notice: the names of the weights in %s begin with %s, which is taken off", path, _WRAPPED)


def load_network(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained network.

    Returns:
        The network in evaluation mode with its weights, and its settings.

    Raises:
        InputError: if the file is not a whole network of a known kind.
    """
    content = load_weights(path)
    shapes = outlined_shapes(content["network_def"], len(content["model"]), source=str(path))
    if shapes is not None:
        _require_tensors(path, shapes, content["model"])
    network = build_network(content["network_def"], source=str(path), from_file=True)
    if shapes is None:
        _require_tensors(path, {name: value.shape for name, value in network.state_dict().items()}, content["model"])
    try:
        network.load_state_dict(content["model"])
    except RuntimeError as error:
        raise InputError(path, "its weights do not fit its network_def", "use a file that mtmed wrote") from error
    network.eval()
    return network, content["settings"]


def _require_tensors(path: str | Path, shapes: Mapping[str, torch.Size], model: Mapping[str, torch.Tensor]) -> None:
    absent = sorted(set(shapes) - set(model))
    if absent:
        raise InputError(
            path,
            f"holds {len(shapes) - len(absent)} of the network's {len(shapes)} tensors ({absent[0]} is missing)",
            "pass model.pt of a fine-tuning run, not an encoder",
        )
    unfit = [name for name in shapes if model[name].shape != shapes[name]]
    if unfit:
        found, wanted = list(model[unfit[0]].shape), list(shapes[unfit[0]])
        problem = f"only {len(shapes) - len(unfit)} of the {len(shapes)} tensors of its network_def fit"
        problem += f" ({unfit[0]}: {found} in the file, {wanted} in the network)"
        raise InputError(path, problem, "use a file that mtmed wrote")


def save_network(path: str | Path, network: nn.Module, settings: Mapping[str, Any]) -> None:
    """Write the weights file of a whole network."""
    save_tensors(path, network, settings, keep=lambda name: True)


def save_encoder(path: str | Path, network: nn.Module, settings: Mapping[str, Any]) -> None:
    """Write the weights file of a network's encoder, which is what pre-training hands on."""
    prefixes: tuple[str, ...] = network.encoder_prefixes  # type: ignore[assignment]
    save_tensors(path, network, settings, keep=lambda name: name.startswith(prefixes))


def save_tensors(
    path: str | Path,
    network: nn.Module,
    settings: Mapping[str, Any],
    *,
    keep: Callable[[str], bool],
    kind: str | None = None,
) -> None:
    """Write the weights file of a part of a network.

    Args:
        path: weights file.
        network: made by `build_network`.
        settings: what is needed to feed the network again.
        keep: whether a tensor of the state dict is written, by its name.
        kind: what the file is, under the key ``kind``; None leaves the key out.

    Raises:
        InputError: a tensor is not finite, or the file cannot be written.
    """
    state = {name: value.detach().cpu() for name, value in network.state_dict().items() if keep(name)}
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(name, "weight is not finite and is not saved", "lower the learning rate")
    content = {"model": state, "network_def": network_definition(network), "settings": dict(settings)}
    atomic_save(content if kind is None else {**content, "kind": kind}, path)


def carried(path: str | Path | None, setting: str, default: Any) -> Any:
    """A setting of a weights file, or the default where there is no file: how fine-tuning follows pre-training.

    Args:
        path: weights file, or None when training from scratch.
        setting: name of the setting, for example ``"spacing"``.
        default: value without a file.

    Raises:
        InputError: if the file lacks the setting.
    """
    if path is None:
        return default
    settings = load_weights(path)["settings"]
    if setting not in settings:
        raise InputError(
            path, f"has no setting {setting!r} (it has {', '.join(sorted(settings))})", f"pass --{setting}"
        )
    return settings[setting]


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, to say which weights made an output."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
