"""A start from which rare foreground can be learnt."""

import math
from typing import TypeVar

import torch
from torch import nn

from mtmed.errors import InputError

__all__ = ["with_foreground_prior"]

Network = TypeVar("Network", bound=nn.Module)


def with_foreground_prior(
    network: Network, prior: float | str | None, *, classes: int, overlapping: bool = False
) -> Network:
    r"""Let a new network predict foreground with a small probability everywhere.

    Sets the bias of the last convolution, for its first `classes` channels, to :math:`\log(1 - \pi)` for background and
    :math:`\log(\pi / (C - 1))` for each other class; for organs that may overlap, whose probabilities are sigmoids, to
    :math:`\log(\pi / (1 - \pi))` for each. With the usual start at one half, an overlap loss on small lesions has
    almost no gradient: its denominator is the whole patch, and a term that rewards sensitivity first drives the
    prediction to foreground everywhere; or the weights of an organ all turn negative, and it is lost.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", section 4.1.

    Args:
        network: whose last convolution gives the logits.
        prior: probability :math:`\pi` of foreground, in (0, 1); None or ``"none"`` (MONAI's command line passes no
            null) leaves the network as it is.
        classes: number of classes of the head, background first; of organs, if they may overlap.
        overlapping: whether the head has a sigmoid per organ and no background.

    Returns:
        The network itself.

    Raises:
        InputError: if the prior is not in (0, 1).
    """
    if prior is None or prior == "none":
        return network
    if isinstance(prior, bool) or not isinstance(prior, int | float) or not 0 < prior < 1:
        raise InputError("foreground_prior", f"is {prior!r}", "give a probability between 0 and 1, or none")
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)][-1]
    assert last.bias is not None
    with torch.no_grad():
        if overlapping:
            last.bias[:classes] = math.log(prior / (1 - prior))
            return network
        last.bias[0] = math.log(1 - prior)
        last.bias[1:classes] = math.log(prior / (classes - 1))
    return network
