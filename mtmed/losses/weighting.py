"""From several named losses to the one that is minimised."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mtmed.errors import InputError

__all__ = [
    "ConstantWeighting",
    "LinearWeighting",
    "WeightedLoss",
    "Weighting",
    "check_named",
    "check_weights",
    "weighted_sum",
]

logger = logging.getLogger(__name__)


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
        return weighted_sum(losses, self.weights)


class LinearWeighting(Weighting):
    r"""Weighted sum whose weights move linearly from the first step of a run to its last, and stay there.

    .. math:: w_k(t) = s_k + (e_k - s_k) \min\left(\frac{t}{T - 1}, 1\right)

    The weights are a function of step and length alone, so a resumed run has those of an uninterrupted one. A run that
    goes on with another length takes the weights of the new one, and says so.

    Args:
        start: weight :math:`s_k` of each loss at the first step; a weight whose loss is left out is not used.
        end: weight :math:`e_k` of the same losses from the last step on.
        steps: number of steps T; with a single step the weights at it are those of the start.

    Raises:
        InputError: if `start` and `end` name different losses, a weight is not finite, or there is no step; if a loss
            has no weight, at its first step.
    """

    def __init__(self, *, start: Mapping[str, float], end: Mapping[str, float], steps: int) -> None:
        super().__init__()
        self.start, self.end, self.steps = dict(start), dict(end), steps
        different = sorted(set(start) ^ set(end))
        if different:
            problem = f"give loss {different[0]!r} a weight in one of the two only"
            raise InputError("start and end", problem, "name the same losses in both")
        for side, weights in (("start", self.start), ("end", self.end)):
            check_weights(side, weights)
        if steps < 1:
            raise InputError("steps", f"is {steps}", "give the number of steps of the run, 1 or more")

    def get_extra_state(self) -> int:
        """The number of steps, for the checkpoint."""
        return self.steps

    def set_extra_state(self, state: int) -> None:
        """Say so if the run that goes on was to have another length."""
        if state != self.steps:
            text = (
                "The weights of the losses now move over %d steps, before over %d; they go on from where that puts them"
            )
            logger.info(text, self.steps, state)

    def forward(self, losses: Mapping[str, Tensor], step: int) -> WeightedLoss:
        """See `Weighting.forward`."""
        share = min(step / max(self.steps - 1, 1), 1.0)
        weights = {name: weight * (1 - share) + self.end[name] * share for name, weight in self.start.items()}
        return weighted_sum(losses, weights)


def check_weights(culprit: str, weights: Mapping[str, float]) -> None:
    """Refuse weights that are not finite.

    Raises:
        InputError: one is not.
    """
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise InputError(culprit, f"gives loss {name!r} the weight {weight}", "give a finite number")


def check_named(culprit: str, names: Iterable[str], weights: Mapping[str, float]) -> None:
    """Refuse names of losses that have no weight.

    Raises:
        InputError: one has none.
    """
    nameless = sorted(set(names) - set(weights))
    if nameless:
        problem = f"names {nameless[0]!r}, which has no weight (given: {sorted(weights)})"
        raise InputError(culprit, problem, "correct the name or add its weight")


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> WeightedLoss:
    """Sum of the losses, each times its weight; a weight whose loss is left out is not used.

    Raises:
        InputError: a loss has no weight.
    """
    nameless = sorted(set(losses) - set(weights))
    if nameless:
        raise InputError("weights", f"none for loss {nameless[0]!r} (given: {sorted(weights)})", "add it")
    terms = [weights[name] * loss for name, loss in losses.items()]
    return WeightedLoss(sum(terms[1:], terms[0]), {name: weights[name] for name in losses})
