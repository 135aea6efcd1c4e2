"""Losses of several tasks whose gradients are aggregated by a method of TorchJD."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.losses.shared_gradients import GRADIENT_SCALE, scaled_gradients, zero_with_gradient
from mtmed.losses.weighting import WeightedLoss, Weighting, check_named, check_weights, weighted_sum
from mtmed.randomness import stream_key

__all__ = ["GradientAggregation"]

_AGGREGATORS: dict[str, tuple[str, dict[str, float]]] = {
    "aligned_mtl": ("AlignedMTLWeighting", {}),
    "cagrad": ("CAGradWeighting", {"c": 0.4}),
    "dualproj": ("DualProjWeighting", {}),
    "imtl_g": ("IMTLGWeighting", {}),
    "mgda": ("MGDAWeighting", {}),
    "pcgrad": ("PCGradWeighting", {}),
    "upgrad": ("UPGradWeighting", {}),
}


class GradientAggregation(Weighting):
    r"""Weighted sum in which shared parameters get a combination of the tasks' gradients that heeds their conflicts.

    The losses that are not auxiliary are the main task; each auxiliary loss is a task of its own. With :math:`g_t` the
    gradient of a task's weighted losses with respect to the shared parameters, the aggregator takes the inner products
    :math:`G_{st} = g_s^\top g_t` and gives a factor for each task; the shared parameters get

    .. math:: \sum_t a_t(G) \, g_t,

    and all others, such as the heads, the plain gradient of their task. A parameter is shared if two tasks reach it.
    Over several processes G is that of the joint batch. A task whose gradient is 0 has no part in G; a step with
    gradients that are not finite is the plain weighted sum.

    Factors are those of TorchJD for G divided by the mean of its diagonal, which none of the methods depends on but by
    its own guards against small numbers. Without conflict ``upgrad``, ``dualproj`` and ``mgda`` give a mean of the
    gradients, ``pcgrad`` their sum. The gradients are found before the step's own backward pass, at the price of one
    pass for each task.

    Source: Quinton, Rey 2024 (arXiv 2406.16232) for ``upgrad`` and the library; the others are named after their
    methods in it: ``mgda`` (Desideri 2012), ``dualproj`` (Lopez-Paz, Ranzato 2017), ``pcgrad`` (Yu et al. 2020),
    ``cagrad`` (Liu et al. 2021, with c = 0.4), ``imtl_g`` (Liu et al. 2021), ``aligned_mtl`` (Senushkin et al. 2023).

    Args:
        weights: weight of each loss by name; a weight whose loss is left out is not used. The weight in force is the
            one on the shared parameters.
        auxiliary: names of the auxiliary losses.
        parameters: where tasks may meet: those of the network. Of these, the ones that need no gradient are left out.
        aggregator: name of the method; ``cagrad`` needs further packages.
        seed: of the run, for the order in which ``pcgrad`` compares the tasks.

    Raises:
        InputError: if a weight is not finite, a name in `auxiliary` has none, there are no parameters, the aggregator
            is unknown, or its packages are not installed; at a step, if a loss has no weight, all losses are auxiliary,
            or no parameter is shared.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, float],
        auxiliary: Sequence[str],
        parameters: Iterable[Tensor],
        aggregator: str = "upgrad",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_weights("weights", weights)
        check_named("auxiliary", auxiliary, weights)
        self.weights = dict(weights)
        self.auxiliary = tuple(dict.fromkeys(auxiliary))
        # in a tuple, so that they do not become parameters of the weighting
        self.compared = tuple(parameters)
        if not self.compared:
            raise InputError("parameters", "there are none", "give the parameters of the network")
        self.factors_of = _load(aggregator)
        self.seed = seed

    def forward(self, losses: Mapping[str, Tensor], step: int) -> WeightedLoss:
        """See `Weighting.forward`; the losses' graphs must still be there."""
        plain = weighted_sum(losses, self.weights)
        tasks = self._tasks(losses)
        if len(tasks) == 1:
            return plain
        parameters = [parameter for parameter in self.compared if parameter.requires_grad]
        totals = [weighted_sum({name: losses[name] for name in task}, self.weights).total for task in tasks]
        found = [scaled_gradients(total, parameters) for total in totals]
        gradients = list(zip(*found, strict=True))
        shared = [i for i, row in enumerate(gradients) if sum(one is not None for one in row) > 1]
        if not shared:
            raise InputError("parameters", "none is reached by two tasks", "give those of the network")
        factors = self._factors([gradients[i] for i in shared], step)
        if factors is None:
            return plain
        surplus = [
            sum((factor - 1) * one for factor, one in zip(factors, gradients[i], strict=True) if one is not None)
            for i in shared
        ]
        correction = zero_with_gradient([parameters[i] for i in shared], surplus, 1 / GRADIENT_SCALE)
        weights = {
            name: self.weights[name] * factor for task, factor in zip(tasks, factors, strict=True) for name in task
        }
        # value: the weighted sum with the weights in force; gradient: the plain one, corrected where it is shared
        change = sum((factor - 1) * total.detach() for factor, total in zip(factors, totals, strict=True))
        return WeightedLoss(plain.total + change + correction, weights)

    def _tasks(self, losses: Mapping[str, Tensor]) -> list[list[str]]:
        """Names of the losses of each task, the main one first."""
        main = [name for name in losses if name not in self.auxiliary]
        if not main:
            raise InputError("auxiliary", f"names all losses ({sorted(losses)})", "leave out those of the main task")
        return [main, *([name] for name in self.auxiliary if name in losses)]

    @torch.no_grad()
    def _factors(self, gradients: Sequence[Sequence[Tensor | None]], step: int) -> list[float] | None:
        """Factor of each task; None where gradients are not finite."""
        gramian = _gramian(gradients).cpu()
        if not bool(torch.isfinite(gramian).all()):
            return None
        moving = gramian.diagonal() > 0
        factors = torch.ones(len(gramian), dtype=gramian.dtype)
        if int(moving.sum()) > 1:
            inner = gramian[moving][:, moving]
            # in a state of its own: some methods draw from torch's global generator
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream_key(self.seed, step, 0, "gradient_aggregation") >> 1)
                factors[moving] = self.factors_of(inner / inner.diagonal().mean())
        return [float(factor) for factor in factors]


def _gramian(gradients: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """Inner products of the tasks' gradients of the joint batch, T T in float64; each row is one parameter's."""
    gramian: Tensor | None = None
    for row in gradients:
        like = next(one for one in row if one is not None)
        flat = torch.stack([torch.zeros_like(like).flatten() if one is None else one.flatten() for one in row])
        joint = all_reduce_sum(flat).double()
        part = joint @ joint.T
        gramian = part if gramian is None else gramian + part
    assert gramian is not None  # there are shared parameters
    return gramian


def _load(aggregator: str) -> nn.Module:
    if aggregator not in _AGGREGATORS:
        raise InputError("aggregator", f"is {aggregator!r}", f"choose one of {', '.join(sorted(_AGGREGATORS))}")
    name, options = _AGGREGATORS[aggregator]
    try:
        from torchjd import aggregation
    except ImportError as error:
        remedy = 'python -m pip install "mtmed[balancing]"'
        raise InputError("torchjd", f"is not installed; the aggregator {aggregator} is its", remedy) from error
    factory: Any = getattr(aggregation, name)
    try:
        made: nn.Module = factory(**options)
    except ImportError as error:
        remedy = f'python -m pip install "torchjd[{"cagrad" if aggregator == "cagrad" else "quadprog-projector"}]"'
        raise InputError(f"aggregator {aggregator}", "needs packages that are not installed", remedy) from error
    return made
