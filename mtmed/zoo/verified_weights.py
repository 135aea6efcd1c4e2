"""The weights of an exported bundle are read only if they are those that it was exported with."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtmed.errors import InputError

__all__ = ["WEIGHTS_SHA256", "changed_weights", "verified_weights"]

WEIGHTS_SHA256 = "weights_sha256"
"""Key of ``configs/metadata.json``: SHA-256 of each weights file, by its path in the bundle."""


def verified_weights(checkpoint: str | None, bundle_root: str | Path) -> str:
    """The path of the weights, if it is none of the bundle's own or those are unchanged.

    For the configs of an exported bundle, which then read the file. Where the checkpoint is one of the bundle's files,
    all of them are verified, since one may be used with the other.

    Args:
        checkpoint: weights file.
        bundle_root: the exported folder.

    Raises:
        InputError: there is no path, the bundle's metadata do not give its hash, or a file has another one.
    """
    from mtmed.inferers import require_checkpoint

    path = require_checkpoint(checkpoint)
    root = Path(bundle_root)
    if not Path(path).resolve().is_relative_to((root / "models").resolve()):
        if path.endswith(".safetensors"):
            remedy = "pass a model.pt, or run the bundle of the repository, which reads both"
            raise InputError(path, "is no file of torch.save, which the exported bundle reads", remedy)
        return path
    metadata = root / "configs" / "metadata.json"
    try:
        content = json.loads(metadata.read_text(encoding="utf-8"))
        stated = {str(name): str(digest) for name, digest in content[WEIGHTS_SHA256].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(metadata, f"gives no {WEIGHTS_SHA256}", "export the bundle again") from error
    known = {(root / name).resolve() for name in stated}
    if Path(path).is_file() and Path(path).resolve() not in known:
        raise InputError(path, f"is not in {WEIGHTS_SHA256} of {metadata}", "export the bundle again")
    for name in changed_weights(root, stated):
        problem = f"does not have the SHA-256 that {metadata} gives"
        raise InputError(root / name, problem, "copy or download the bundle again")
    return path


def changed_weights(root: Path, stated: Mapping[str, Any]) -> Iterator[str]:
    """Names of the weights files that are there and have another SHA-256 than is stated."""
    from mtmed.networks import sha256_of

    for name, digest in stated.items():
        if (root / name).is_file() and sha256_of(root / name) != digest:
            yield name
