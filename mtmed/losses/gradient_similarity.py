"""Auxiliary losses that count as far as their gradient agrees with that of the main task."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.losses.shared_gradients import GRADIENT_SCALE, scaled_gradients, zero_with_gradient
from mtmed.losses.weighting import WeightedLoss, Weighting, check_named, check_weights, weighted_sum

__all__ = ["GradientSimilarityWeighting"]


class GradientSimilarityWeighting(Weighting):
    r"""Weighted sum in which an auxiliary loss moves shared parameters only as far as it helps the main task.

    With :math:`g_0` the gradient of the main task (all losses that are not auxiliary, weighted) with respect to the
    shared parameters and :math:`g_k` that of the auxiliary loss :math:`L_k`, the shared parameters get

    .. math:: g_0 + \sum_k c_k \max(0, \cos(g_0, g_k)) \, g_k,

    and all others, such as the head of an auxiliary task, the gradient of :math:`\sum_k c_k L_k`. The parameters that
    both losses reach are the shared ones of this pair. Over several processes the cosine is that of the gradients of
    the joint batch.

    The gradients are found before the step's own backward pass, at the price of one pass for the main task and one for
    each auxiliary loss. In a float16 run whose gradients overflow there, the step leaves the auxiliary loss out.

    Source: Du et al. 2018 (arXiv 1812.02224), the weighted version. Our reading: its one auxiliary loss may be several,
    each compared with the main task alone; the similarity multiplies the weights that were chosen.

    Args:
        weights: weight :math:`c_k` of each loss by name; a weight whose loss is left out is not used. The weight in
            force of an auxiliary loss is the one on the shared parameters.
        auxiliary: names of the auxiliary losses.
        parameters: where gradients are compared: those of the network. Of these, the ones that need no gradient, or
            that one of the two losses does not reach, are left out.

    Raises:
        InputError: if a weight is not finite, a name in `auxiliary` has none, or there are no parameters; at a step, if
            a loss has no weight, all losses are auxiliary, or a pair shares no parameter.
    """

    def __init__(self, *, weights: Mapping[str, float], auxiliary: Sequence[str], parameters: Iterable[Tensor]) -> None:
        super().__init__()
        check_weights("weights", weights)
        check_named("auxiliary", auxiliary, weights)
        self.weights = dict(weights)
        self.auxiliary = tuple(dict.fromkeys(auxiliary))
        # in a tuple, so that they do not become parameters of the weighting
        self.compared = tuple(parameters)
        if not self.compared:
            raise InputError("parameters", "there are none", "give the parameters of the network")

    def forward(self, losses: Mapping[str, Tensor], step: int) -> WeightedLoss:
        """See `Weighting.forward`; the losses' graphs must still be there."""
        main = {name: loss for name, loss in losses.items() if name not in self.auxiliary}
        if not main:
            raise InputError("auxiliary", f"names all losses ({sorted(losses)})", "leave out those of the main task")
        weighted = weighted_sum(losses, self.weights)
        if len(main) == len(losses):
            return weighted
        total, weights = weighted_sum(main, self.weights).total, dict(weighted.weights)
        parameters = [parameter for parameter in self.compared if parameter.requires_grad]
        main_gradients = scaled_gradients(total, parameters)
        for name in self.auxiliary:
            if name not in losses:
                continue
            gradients = scaled_gradients(losses[name], parameters)
            shared = [
                (parameter, a, b)
                for parameter, a, b in zip(parameters, main_gradients, gradients, strict=True)
                if a is not None and b is not None
            ]
            if not shared:
                problem = f"none is reached by {name!r} and the main task"
                raise InputError("parameters", problem, "give those of the network")
            cosine = _cosine([a for _, a, _ in shared], [b for _, _, b in shared])
            weight, similarity = self.weights[name], max(cosine, 0.0)
            weights[name] = weight * similarity
            if not math.isfinite(cosine):
                weights[name] = 0.0
                total = total + 0.0 * losses[name]
                continue
            surplus = weight * (1 - similarity)
            # value: the weighted sum; gradient: the auxiliary loss as a whole, less the surplus where it is shared
            correction = zero_with_gradient(
                [p for p, _, _ in shared], [b for _, _, b in shared], -surplus / GRADIENT_SCALE
            )
            total = total + weight * losses[name] - surplus * losses[name].detach() + correction
        return WeightedLoss(total, weights)


@torch.no_grad()
def _cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Cosine of the angle between two gradients of the joint batch; 0 if one of them is 0, NaN if one is not finite."""
    a, b = all_reduce_sum(torch.stack([torch.cat([part.flatten() for part in parts]) for parts in (first, second)]))
    a, b = (vector / vector.abs().max().clamp_min(torch.finfo(vector.dtype).tiny) for vector in (a, b))
    norms = torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)
    return float(torch.dot(a, b) / torch.where(norms > 0, norms, torch.ones_like(norms)))
