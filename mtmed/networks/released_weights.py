"""Weights for others: a weights file as safetensors, which can hold no code.

The tensors are those of the run's weights file. ``network_def``, ``settings`` and, where there is one, ``kind`` stand
as JSON in the header's metadata, and so does a SHA-256 of all of it, because the format has no checksum of its own.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder
from mtmed.networks.definition import is_plain

__all__ = ["RELEASED", "read_released", "save_released", "weights_beside"]

RELEASED = ".safetensors"
"""Ending of the files that `save_released` writes."""

_ENTRY = "mtmed"  # of the header's metadata; a single one, because the format writes several in a random order
_LARGEST_HEADER = 16 * 2**20  # bytes: 100 000 tensors; the format itself allows 100 MB, which takes seconds to parse
_OF_PATIENTS = ("trained_on", "labels_of")
_DAMAGED = "copy or download it again"


def save_released(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a weights file as safetensors, without the digests of patients.

    Args:
        path: file to write, ending in ``.safetensors``.
        content: what `mtmed.networks.load_weights` gives.

    Raises:
        InputError: the ending is another, a setting is no plain value, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != RELEASED:
        raise InputError(path, f"does not end in {RELEASED}", "name such a file")
    # whose scans the network saw concerns the lab alone
    settings = {key: [] if key in _OF_PATIENTS else value for key, value in content["settings"].items()}
    content = {**content, "settings": settings}
    plain = {key: value for key, value in content.items() if key != "model"}
    if not is_plain(plain):
        raise InputError(path, "its settings are not plain values", "use a weights file that mtmed wrote")
    # copies, since the format refuses tensors that share memory
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in content["model"].items()}
    entry = json.dumps({**plain, "sha256": _digest(tensors, plain)}, sort_keys=True)
    written = save(tensors, {_ENTRY: entry})
    require_writable_folder(path.parent)
    with atomic_file(path, remedy="free space or name another file") as file:
        file.write(written)


def read_released(path: str | Path) -> dict[str, Any]:
    """Read what `save_released` wrote, verified to the last bit; nothing of it is run.

    Returns:
        ``{"model", "network_def", "settings"}`` and ``kind``, if there is one.

    Raises:
        InputError: the file is missing, damaged, of another kind, or its header is longer than 16 MiB.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such file", "pass the path of a weights file")
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > min(_LARGEST_HEADER, path.stat().st_size):
            raise InputError(path, f"is damaged or not a weights file (claims a header of {header} bytes)", _DAMAGED)
        with safe_open(path, framework="pt") as opened:
            plain = json.loads((opened.metadata() or {}).get(_ENTRY, "null"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no dictionary)
    except InputError:
        raise
    except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(path, "is damaged or not a weights file", _DAMAGED) from error
    if not isinstance(plain, dict) or not {"network_def", "settings", "sha256"} <= set(plain):
        raise InputError(path, "is no weights file of mtmed", "pass one that 'mtmed release' wrote")
    if plain.pop("sha256") != _digest(tensors, plain):
        raise InputError(path, "its content does not match its SHA-256", _DAMAGED)
    return {**plain, "model": tensors}


def weights_beside(checkpoint: object, name: str) -> str:
    """Path of a second weights file in the folder of a first one: released if there is one, else as runs write it.

    Args:
        checkpoint: the first weights file.
        name: of the second one without its ending, for example ``"rough"``.
    """
    released = Path(str(checkpoint)).with_name(f"{name}{RELEASED}")
    return str(released if released.is_file() else released.with_suffix(".pt"))


def _digest(tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> str:
    """SHA-256 of names, kinds, shapes and bytes of the tensors in the order of their names, after the plain values."""
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
