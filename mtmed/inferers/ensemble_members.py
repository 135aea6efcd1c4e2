"""The further networks of an ensemble, from their weights files."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mtmed.errors import InputError
from mtmed.inferers.slices import SliceInferer
from mtmed.networks.weights import load_network

__all__ = ["Member", "ensemble_members", "joint_features", "require_checkpoints"]

Member = tuple[nn.Module, SliceInferer, list[str]]
"""A network of slices, what shows it a volume, and the metadata it wants."""

_SHARED = ("organs", "modalities", "image_size", "normalise_per")


def require_checkpoints(paths: Sequence[str]) -> list[str]:
    """The weights files of an ensemble, at least two.

    Raises:
        InputError: if there are fewer.
    """
    if isinstance(paths, str) or len(paths) < 2:
        remedy = """pass --checkpoints "['runs/<run>/model.pt','runs/<other run>/model.pt']\""""
        raise InputError("checkpoints", f"is {paths!r}, an ensemble has two or more models", remedy)
    return list(paths)


def ensemble_members(
    paths: Sequence[str],
    *,
    settings: Mapping[str, Any],
    device: str | torch.device = "cpu",
    batch_size: int = 32,
) -> list[Member]:
    """Load networks whose probabilities are averaged with those of a first one.

    Args:
        paths: their weights files.
        settings: of the first network; all see the image that is prepared for it.
        device: where they compute.
        batch_size: slices per call of a network.

    Returns:
        For each network what `EnsembleInferer` wants.

    Raises:
        InputError: if a file cannot be read, or its network segments other organs or wants another image.
    """
    members = []
    for path in paths:
        network, own = load_network(path)
        for key in _SHARED:
            if own.get(key) != settings[key]:
                problem = f"was trained with {key} {own.get(key)}, the first model with {settings[key]}"
                raise InputError(path, problem, "average models that were trained on the same images and organs")
        offsets, planes = own["slice_offsets"], len(own["features"])
        inferer = SliceInferer(slice_offsets=offsets, feature_planes=planes, batch_size=batch_size)
        members.append((network.to(device), inferer, list(own["features"])))
    return members


def joint_features(own: Sequence[str], members: Sequence[Member]) -> list[str]:
    """Every feature that one of the networks wants, each once: those of the first network, then the others'."""
    return list(dict.fromkeys([*own, *(name for _, _, names in members for name in names)]))
