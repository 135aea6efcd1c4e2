"""Gradients of single losses at shared parameters, and a total whose gradient there is a given one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["GRADIENT_SCALE", "scaled_gradients", "zero_with_gradient"]

GRADIENT_SCALE = 2.0**10
"""Factor of `scaled_gradients`: those of float16 maps would vanish without it; a power of two is exact."""


def scaled_gradients(loss: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradient of a loss, times the scale, for each parameter; None where the loss does not depend on it.

    The graph of the loss stays.
    """
    scale = torch.full_like(loss, GRADIENT_SCALE)
    return torch.autograd.grad(loss, parameters, scale, retain_graph=True, allow_unused=True)


def zero_with_gradient(parameters: Sequence[Tensor], gradients: Sequence[Tensor], factor: float) -> Tensor:
    """A scalar that is 0 and whose gradient for each parameter is a given tensor, times a factor."""
    zero: Tensor = _ZeroWithGradient.apply(factor, *parameters, *gradients)  # type: ignore[no-untyped-call]
    return zero


class _ZeroWithGradient(torch.autograd.Function):
    """0 from a factor, n tensors and their n gradients."""

    @staticmethod
    def forward(ctx: Any, factor: float, *tensors: Tensor) -> Tensor:
        ctx.factor = factor
        ctx.save_for_backward(*tensors[len(tensors) // 2 :])
        return tensors[0].new_zeros(())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        return None, *(one * (ctx.factor * gradient) for one in given), *(None for _ in given)
