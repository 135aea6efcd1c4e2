"""Random weights of tasks, drawn anew at every step."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from mtmed.losses.weighting import WeightedLoss, Weighting, check_named, check_weights, weighted_sum
from mtmed.randomness import random_generator

__all__ = ["RandomWeighting"]


class RandomWeighting(Weighting):
    r"""Weighted sum in which each task gets a random share of the step.

    The losses that are not auxiliary are the main task; each auxiliary loss is a task of its own. With standard normal
    draws :math:`z_k` of a step, one for each task,

    .. math:: L = \sum_k \operatorname{softmax}(z)_k \, c_k L_k.

    The draws are a function of seed and step alone, so all processes and a resumed run have the same.

    Source: Lin et al. 2021 (arXiv 2111.10603), "random loss weighting" with the normal distribution. Our reading:
    losses that belong to one task (cross-entropy and Dice) share a draw, and the draw multiplies the weights that were
    chosen, where the paper has none. The shares of K tasks add up to 1, so on average a loss weighs 1/K of its weight.

    Args:
        weights: weight :math:`c_k` of each loss by name; a weight whose loss is left out is not used.
        auxiliary: names of the auxiliary losses; those that are left out have no share.
        seed: seed of the run.

    Raises:
        InputError: if a weight is not finite or a name in `auxiliary` has none; if a loss has no weight, at its first
            step.
    """

    def __init__(self, *, weights: Mapping[str, float], auxiliary: Sequence[str], seed: int) -> None:
        super().__init__()
        check_weights("weights", weights)
        check_named("auxiliary", auxiliary, weights)
        self.weights = dict(weights)
        self.auxiliary = tuple(dict.fromkeys(auxiliary))
        self.seed = seed

    def forward(self, losses: Mapping[str, Tensor], step: int) -> WeightedLoss:
        """See `Weighting.forward`."""
        present = [name for name in self.auxiliary if name in losses]
        draws = np.exp(random_generator(self.seed, step, 0, "weighting").standard_normal(1 + len(present)))
        main, *others = (draws / draws.sum()).tolist()
        shares = dict(zip(present, others, strict=True))
        return weighted_sum(losses, {name: c * shares.get(name, main) for name, c in self.weights.items()})
