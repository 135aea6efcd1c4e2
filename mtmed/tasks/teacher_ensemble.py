"""Trained networks that together give a soft target."""

import hashlib
import json
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from mtmed.errors import InputError
from mtmed.losses.distillation import DistillationLoss
from mtmed.networks.centre_padding import crop_centre
from mtmed.tasks.task import View, encode_view

__all__ = ["TeacherEnsemble"]


class TeacherEnsemble:
    r"""Mean of the probabilities of M teachers at a temperature.

    .. math:: \bar p = \frac{1}{M} \sum_m \sigma(f_m(x) / T), \quad \text{or softmax in place of } \sigma.

    It is no module: its networks are in no state dict, no optimiser and no checkpoint. They stay in evaluation mode and
    follow the image to its device. What they say of an image is kept until they see another one, so that they run once
    for a view, however many losses read it.

    Args:
        networks: see `mtmed.networks.load_teachers`; of any class, each with as many channels of logits as the student.
            They are frozen.

    Raises:
        InputError: if there is no network.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        if not networks:
            raise InputError("teachers", "there is none", "give at least one network")
        self.networks = tuple(network.eval().requires_grad_(False) for network in networks)
        self._kept: tuple[weakref.ref[Tensor], tuple[float, str], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.networks)

    @cached_property
    def digest(self) -> Tensor:
        """SHA-256 of the weights of all networks in their order, 32 bytes."""
        digest = hashlib.sha256()
        for network in self.networks:
            for name, value in network.state_dict().items():
                digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)

    @torch.no_grad()
    def soft_target(self, view: View, loss: DistillationLoss) -> Tensor:
        """Mean probabilities of a view at the temperature of a loss.

        Args:
            view: ``image``, B C H W [D], and the ``condition`` where networks are told one.
            loss: knows temperature and activation.

        Returns:
            B K H W [D], float32.

        Raises:
            InputError: if the teachers differ in their number of channels.
        """
        image, form = view["image"], (loss.temperature, loss.activation)
        if self._kept is not None and self._kept[0]() is image and self._kept[1] == form:
            return self._kept[2]
        mean: Tensor | None = None
        for number, network in enumerate(self.networks, start=1):
            probabilities = loss.probabilities(_logits(network.to(image.device), view))
            if mean is not None and probabilities.shape != mean.shape:
                problem = f"has {probabilities.shape[1]} channels of logits, those before it {mean.shape[1]}"
                raise InputError(f"teacher {number}", problem, "give teachers of the same organs")
            mean = probabilities if mean is None else mean.add_(probabilities)
        assert mean is not None  # there are networks
        target = mean.div_(len(self.networks))
        self._kept = (weakref.ref(image), form, target)
        return target


def _logits(network: Any, view: View) -> Tensor:
    decoded = crop_centre(network.decode(encode_view(network, view)), list(view["image"].shape[2:]))
    return cast(Tensor, network.head(decoded))
