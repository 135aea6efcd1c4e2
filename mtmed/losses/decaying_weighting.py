"""Weights of auxiliary losses that fall from epoch to epoch."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from mtmed.errors import InputError
from mtmed.losses.weighting import WeightedLoss, Weighting, check_named, check_weights, weighted_sum

__all__ = ["DecayingWeighting"]


class DecayingWeighting(Weighting):
    r"""Weighted sum in which the weights of some losses are divided by the number of the epoch.

    .. math:: w_k(t) = c_k / t

    with t = 1 in the first epoch; the other weights stay as they are. The weights are a function of the step alone, so
    a resumed run has those of an uninterrupted one.

    Source: Chia, Gu, Lui 2022, Eq. 3, which does not say what t counts; read as epochs.

    Args:
        weights: weight :math:`c_k` of each loss by name; a weight whose loss is left out is not used.
        decaying: names of the losses whose weight falls.
        epoch_length: steps per epoch.

    Raises:
        InputError: if a weight is not finite, a name in `decaying` has no weight, or an epoch has no step; if a loss
            has no weight, at its first step.
    """

    def __init__(self, *, weights: Mapping[str, float], decaying: Sequence[str], epoch_length: int) -> None:
        super().__init__()
        check_weights("weights", weights)
        check_named("decaying", decaying, weights)
        if epoch_length < 1:
            raise InputError("epoch_length", f"is {epoch_length}", "give the number of steps of an epoch, 1 or more")
        self.weights = dict(weights)
        self.decaying = frozenset(decaying)
        self.epoch_length = epoch_length

    def forward(self, losses: Mapping[str, Tensor], step: int) -> WeightedLoss:
        """See `Weighting.forward`."""
        epoch = 1 + step // self.epoch_length
        return weighted_sum(
            losses, {name: c / epoch if name in self.decaying else c for name, c in self.weights.items()}
        )
