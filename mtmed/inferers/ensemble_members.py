"""The further networks of an ensemble, from their weights files."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mtmed.errors import InputError
from mtmed.inferers.whole_volume import WholeVolumeInferer, whole_volume_inferer
from mtmed.networks.agreeing_settings import require_agreement
from mtmed.networks.weights import load_network

__all__ = ["Member", "ensemble_members", "joint_features", "require_checkpoints"]

Member = tuple[nn.Module, WholeVolumeInferer, list[str]]
"""A network, what shows it a volume, and the metadata it wants."""

_SHARED = ("organs", "modalities", "image_size", "normalise_per", "spacing", "window")
_REMEDY = "average models that were trained on the same images and organs"


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
    batch_size: int | None = None,
    overlap: float = 0.5,
) -> list[Member]:
    """Load networks whose probabilities are averaged with those of a first one.

    Args:
        paths: their weights files.
        settings: of the first network; all see the image that is prepared for it.
        device: where they compute.
        batch_size: slices or windows per call of a network; see `whole_volume_inferer`.
        overlap: of the windows of 3D networks.

    Returns:
        For each network what `EnsembleInferer` wants.

    Raises:
        InputError: if a file cannot be read, or its network segments other organs or wants another image.
    """
    members = []
    for path in paths:
        network, own = load_network(path)
        require_agreement(path, own, settings, _SHARED, whose="the first model", remedy=_REMEDY)
        inferer = whole_volume_inferer(own, batch_size=batch_size, overlap=overlap)
        members.append((network.to(device), inferer, list(own.get("features", ()))))
    return members


def joint_features(own: Sequence[str], members: Sequence[Member]) -> list[str]:
    """Every feature that one of the networks wants, each once: those of the first network, then the others'."""
    return list(dict.fromkeys([*own, *(name for _, _, names in members for name in names)]))
