"""From several named losses to the one that is minimised."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtmed.errors import InputError

__all__ = ["ConstantWeighting", "WeightedLoss", "Weighting"]


@dataclass(frozen=True)
class WeightedLoss:
    """A step's total loss and the weights that made it.

    Attributes:
        total: the scalar to minimise.
        weights: weight in force of each loss, for the log.
    """

    total: Tensor
    weights: dict[str, float]


class Weighting(nn.Module):
    """Turns named losses into one. A subclass may own parameters; its state is in the checkpoint."""

    def forward(self, losses: Mapping[str, Tensor], step: int) -> WeightedLoss:
        """Weigh the losses of a step.

        Args:
            losses: scalars by name.
            step: optimiser step, counted from 0.
        """
        raise NotImplementedError


class ConstantWeighting(Weighting):
    r"""Weighted sum :math:`\sum_k w_k L_k` with constant weights.

    Args:
        weights: weight of each loss by name; a weight whose loss is left out is not used.

    Raises:
        InputError: if a loss has no weight, at its first step.
    """

    def __init__(self, *, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def forward(self, losses: Mapping[str, Tensor], step: int) -> WeightedLoss:
        """See `Weighting.forward`; the weights do not depend on the step."""
        nameless = sorted(set(losses) - set(self.weights))
        if nameless:
            raise InputError("weights", f"none for loss {nameless[0]!r} (given: {sorted(self.weights)})", "add it")
        terms = [self.weights[name] * loss for name, loss in losses.items()]
        return WeightedLoss(sum(terms[1:], terms[0]), {name: self.weights[name] for name in losses})
