"""Lesions of a first, rough network, which correct the tissue maps that a second network learns with."""

import contextlib
import functools
import threading
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Transform
from torch import nn
from torch.utils.data import get_worker_info

from mtmed.errors import InputError
from mtmed.inferers.streaming import StreamingArgmaxInferer
from mtmed.networks import load_network, sha256_of

__all__ = ["GROUND_TRUTH", "RoughLesionsd"]

GROUND_TRUTH = "ground_truth"
"""In place of a checkpoint: the case's own label."""


class RoughLesionsd(Transform):
    """Predict lesions with a trained network, as a step of the preprocessing.

    A tissue segmentation takes lesions for grey matter; the paper (Abolvardi et al. 2020, section VII) therefore finds
    them roughly first. So that training sees maps as inference makes them, each case can have a network of its own, one
    that was not trained on its patient.

    Args:
        checkpoints: weights file (or `GROUND_TRUTH`) of each case by its key, and under ``""`` that of all others.
        modalities: names of the image's channels, which must be those the networks were trained with.
        spacing: of the image, mm, likewise.
        image_key: entry with the preprocessed image, (C, H, W, D), 0 outside the brain.
        lesion_key: entry that is added, (1, H, W, D) uint8, 0 where all modalities are 0.
        device: where the network runs; in a data loader's workers it is the CPU.

    Raises:
        InputError: if a file is not a network of lesions alone, or takes other modalities or another spacing.
    """

    not_in_fingerprint = ("device",)

    def __init__(
        self,
        *,
        checkpoints: Mapping[str, str],
        modalities: Sequence[str],
        spacing: Sequence[float],
        image_key: str = "image",
        lesion_key: str = "rough_lesion",
        device: str | torch.device = "cpu",
    ) -> None:
        self.checkpoints = dict(checkpoints)
        self.modalities = list(modalities)
        self.spacing = [float(length) for length in spacing]
        self.image_key = image_key
        self.lesion_key = lesion_key
        self.device = str(device)
        # part of what the volume store knows this step by
        files = sorted(set(self.checkpoints.values()) - {GROUND_TRUTH})
        for path in files:
            if not Path(path).is_file():
                remedy = "pass --rough_checkpoint with the rough.pt that training wrote beside model.pt"
                raise InputError(path, "no such file; it holds the rough lesion network", remedy)
        self.digests = {path: sha256_of(path) for path in files}
        for path, digest in self.digests.items():
            settings = _rough_network(path, digest, "cpu")[1]
            wanted = {"variant": "single", "modalities": self.modalities, "spacing": self.spacing}
            for key, value in wanted.items():
                if settings.get(key) != value:
                    problem = f"was trained with {key} {settings.get(key)}, wanted is {value}"
                    raise InputError(path, problem, "pass the rough.pt that belongs to model.pt and its settings")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the lesions of one case; ``data["case"]`` is its key, if it is there."""
        path = self.checkpoints.get(str(data.get("case", "")), self.checkpoints[""])
        result = dict(data)
        if path == GROUND_TRUTH:
            result[self.lesion_key] = (data["label"] > 0).to(torch.uint8)
            return result
        # a loader's forked worker cannot use its parent's GPU
        device = self.device if get_worker_info() is None else "cpu"
        network, settings = _rough_network(path, self.digests[path], device)
        inferer = StreamingArgmaxInferer(roi_size=settings["patch_size"], sw_batch_size=4, foreground="nonzero")
        image = data[self.image_key]
        # a volume store prepares several cases at once, for which a GPU's memory may be too small
        with _GPU if torch.device(device).type == "cuda" else contextlib.nullcontext():
            lesions = inferer(image[None].to(device), network)[0].cpu()
        # what is merged into the tissue map must not make tissue of the outside
        result[self.lesion_key] = lesions * (image != 0).any(0).cpu()
        return result


_GPU = threading.Lock()


@functools.lru_cache(maxsize=8)
def _rough_network(path: str, digest: str, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a file with this content."""
    network, settings = load_network(path)
    return network.to(device), settings
