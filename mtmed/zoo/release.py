"""A run's weights file becomes one for others: safetensors, which can hold no code."""

import argparse
from pathlib import Path

from mtmed.errors import InputError

__all__ = ["add_arguments", "release_weights", "run"]


def release_weights(weights: str | Path, *, output: str | Path | None = None) -> Path:
    """Write a weights file as safetensors, to be passed wherever a weights file is.

    Whatever `mtmed.networks.load_weights` reads may be released: whole networks (``model.pt``, of a student or a
    teacher), encoders, what a pre-training shares, rough networks. Digests of the training patients stay behind.

    Args:
        weights: weights file of a run.
        output: file to write; default: beside the run's, ending in ``.safetensors``.

    Raises:
        InputError: the file is no weights file, or the target exists or cannot be written.
    """
    # inside, so that the command line answers at once
    from mtmed.networks import RELEASED, load_weights, save_released

    source = Path(weights)
    target = Path(output) if output is not None else source.with_suffix(RELEASED)
    if target.exists():
        raise InputError(target, "exists already", "remove it, or pass another --output")
    save_released(target, load_weights(source))
    return target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mtmed release`` to its parser."""
    parser.add_argument(
        "weights", metavar="FILE", help="weights file of a run: model.pt, encoder.pt, shared.pt, rough.pt"
    )
    parser.add_argument("--output", metavar="FILE", help="file to write; default: FILE with the ending .safetensors")


def run(arguments: argparse.Namespace) -> int:
    """Write the file and say its SHA-256."""
    target = release_weights(arguments.weights, output=arguments.output)
    from mtmed.networks import sha256_of

    print(f"written: {target} ({target.stat().st_size / 1e6:.1f} MB)")
    print(f"sha256: {sha256_of(target)}")
    print("next: pass it as --pretrained, --checkpoint or a teacher, wherever a run's own file may stand")
    return 0
