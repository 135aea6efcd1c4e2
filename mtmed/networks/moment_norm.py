"""Batch normalisation over the joint batch of all processes, on CPU and GPU alike."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mtmed.distributed import all_reduce_sum, world_size

__all__ = ["MomentNorm"]


class MomentNorm(_BatchNorm):
    """BatchNorm over batch and space whose moments are those of all processes' samples.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias`` per channel. In one process, and in evaluation, it is
    torch's BatchNorm, with the same parameters and buffers. While training in several processes, moments and gradients
    are those of one process on the joint batch (torch's SyncBatchNorm does the same on GPUs but does not run on CPUs).
    Computes in float32 at least, also under autocast.

    Args:
        num_features: number of channels C of inputs ``B C *spatial``.
        affine: whether to learn weight and bias.
        eps: added to the variance.
        momentum: weight of the new moments in the running ones.
    """

    def __init__(self, num_features: int, *, affine: bool = True, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine, track_running_stats=True)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"expected shape (batch, {self.num_features}, *spatial), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise.

        Args:
            input: shape ``B C *spatial``.

        Returns:
            The same shape, float32 (float64 for float64 input).
        """
        self._check_input_dim(input)
        with torch.autocast(input.device.type, enabled=False):
            input = input.to(torch.promote_types(input.dtype, torch.float32))
            if not self.training or world_size() == 1:
                output: Tensor = super().forward(input)
                return output
            normalised, mean, variance, count = _JointNorm.apply(input, self.eps)  # type: ignore[no-untyped-call]
            self._update_running(mean, variance, count)
            if not self.affine:
                return normalised  # type: ignore[no-any-return]
            shape = (1, -1) + (1,) * (input.dim() - 2)
            return torch.addcmul(self.bias.view(shape), normalised, self.weight.view(shape))

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        # the constructor always tracks
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = variance * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


class _JointNorm(torch.autograd.Function):
    """Normalise by the moments of all processes; keeps its result and one number per channel."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [0, *range(2, input.dim())]
        shape = (1, -1) + (1,) * (input.dim() - 2)
        local = input.numel() // input.shape[1]
        # two passes, since E[x^2] - E[x]^2 cancels where the mean is large
        sums = torch.cat([input.sum(axes).double(), torch.tensor([local], dtype=torch.float64, device=input.device)])
        sums = all_reduce_sum(sums)
        count = sums[-1]
        if count <= 1:
            raise ValueError("batch normalisation in training needs more than one value per channel")
        mean = sums[:-1] / count
        centred = input - mean.to(input.dtype).view(shape)
        variance = all_reduce_sum(centred.square().sum(axes).double()) / count
        inverse = (variance + eps).rsqrt().to(input.dtype)
        normalised = centred.mul_(inverse.view(shape))
        ctx.save_for_backward(normalised, inverse, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        normalised, inverse, count = ctx.saved_tensors
        axes = [0, *range(2, gradient.dim())]
        shape = (1, -1) + (1,) * (gradient.dim() - 2)
        sums = torch.stack([gradient.sum(axes), (gradient * normalised).sum(axes)])
        means = (all_reduce_sum(sums.double()) / count).to(gradient.dtype)
        result = torch.addcmul(gradient - means[0].view(shape), normalised, means[1].view(shape), value=-1)
        return result.mul_(inverse.view(shape)), None
