"""Weights files: what a network learned, with what is needed to build and feed it again.

A weights file holds ``model`` (the state of the network or of its encoder), ``network_def`` (its literal definition)
and ``settings`` (label names, modalities, spacing in mm, window in HU, patch size in voxels). Only tensors and plain
values, so that it loads with ``weights_only=True``.
"""

import errno
import hashlib
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtmed.errors import InputError
from mtmed.files import atomic_file, write_error
from mtmed.networks.definition import build_network, network_definition

__all__ = [
    "TransferReport",
    "atomic_save",
    "carried",
    "load_checkpoint",
    "load_network",
    "load_weights",
    "save_encoder",
    "save_network",
    "save_tensors",
    "sha256_of",
    "transfer_encoder",
]


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
    """Read a file of tensors and plain values, nothing else.

    Raises:
        InputError: if the file is missing, damaged, or would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file", "pass the path of a weights file (model.pt or encoder.pt of a run)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(path, "holds more than tensors and plain values", "use a file that mtmed wrote") from error
    # what torch's reader of pickles stumbles on in a file of anything else
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
        raise InputError(path, "is damaged or not a weights file", "copy it again or train again") from error
    return content if isinstance(content, dict) else {}


def load_weights(path: str | Path) -> dict[str, Any]:
    """Read a weights file: ``{"model", "network_def", "settings"}``.

    Raises:
        InputError: if the file is missing, damaged, of another kind, or holds non-finite weights.
    """
    path = Path(path)
    content = load_checkpoint(path)
    missing = [key for key in ("model", "network_def", "settings") if key not in content]
    if missing:
        raise InputError(path, f"has no {', '.join(missing)}", "pass model.pt or encoder.pt of a run")
    for name, value in content["model"].items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(path, f"weight {name} is not finite", "use an earlier checkpoint")
    return content


def load_network(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained network.

    Returns:
        The network in evaluation mode with its weights, and its settings.

    Raises:
        InputError: if the file is not a whole network of a known kind.
    """
    content = load_weights(path)
    network = build_network(content["network_def"], source=str(path), from_file=True)
    state = network.state_dict()
    absent = sorted(set(state) - set(content["model"]))
    if absent:
        raise InputError(
            path,
            f"holds {len(state) - len(absent)} of the network's {len(state)} tensors ({absent[0]} is missing)",
            "pass model.pt of a fine-tuning run, not an encoder",
        )
    try:
        network.load_state_dict(content["model"])
    except RuntimeError as error:
        raise InputError(path, "its weights do not fit its network_def", "use a file that mtmed wrote") from error
    network.eval()
    return network, content["settings"]


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


@dataclass(frozen=True)
class TransferReport:
    """What arrived in a network from a weights file.

    Attributes:
        transferred: names of the tensors that were copied.
        expected: number of tensors of the network's encoder.
        left_in_file: tensors of the file that the encoder has no place for.
        fresh: tensors of the network that keep their initial values.
        decoder: how many of the transferred ones are not of the encoder.
    """

    transferred: tuple[str, ...]
    expected: int
    left_in_file: tuple[str, ...]
    fresh: tuple[str, ...]
    decoder: int = 0

    def __str__(self) -> str:
        text = f"encoder: {len(self.transferred) - self.decoder} of {self.expected} tensors transferred"
        if self.decoder:
            text += f", and {self.decoder} of the decoder"
        text += f"; {len(self.fresh)} of the network start fresh"
        if self.left_in_file:
            text += f"; left in the file: {len(self.left_in_file)} ({self.left_in_file[0]}, ...)"
        return text


def transfer_encoder(network: nn.Module, path: str | Path) -> TransferReport:
    """Copy a pre-trained encoder into a network; all of it must arrive.

    Args:
        network: a network with ``encoder_prefixes``.
        path: weights file of a pre-training run.

    Raises:
        InputError: if a tensor of the encoder is missing in the file or has another shape: a network that silently
            starts from scratch is the classic fault of pre-training.
    """
    state = load_weights(path)["model"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    prefixes: tuple[str, ...] = network.encoder_prefixes  # type: ignore[assignment]
    own = network.state_dict()
    encoder = [name for name in own if name.startswith(prefixes)]
    fits = [name for name in encoder if name in state and state[name].shape == own[name].shape]
    if len(fits) < len(encoder):
        culprit = next(name for name in encoder if name not in fits)
        found = list(state[culprit].shape) if culprit in state else "missing"
        raise InputError(
            path,
            f"only {len(fits)} of the encoder's {len(encoder)} tensors fit ({culprit}: {found} in the file, "
            f"{list(own[culprit].shape)} in the network)",
            "pass the encoder.pt of a pre-training run of the same network",
        )
    network.load_state_dict({name: state[name] for name in fits}, strict=False)
    return TransferReport(
        transferred=tuple(fits),
        expected=len(encoder),
        left_in_file=tuple(name for name in state if name not in fits),
        fresh=tuple(name for name in own if name not in fits),
    )


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
