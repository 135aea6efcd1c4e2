"""Identity consistency: the channels of two views of the same voxels correlate with themselves and nothing else.

Pixel-level Barlow Twins of MixCL (Li, Quan, Zhou 2022, arXiv 2203.02114, Eq 4 and 5). All that the loss needs of two
feature maps are the first and second moments of their channels, so autograd keeps the feature maps themselves and
small C x C matrices; moments and gradients are matrix products over blocks of voxels that fit the cache.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError

__all__ = ["CrossCorrelationLoss", "cross_correlation"]

# elements of a block: two or three fit the cache of a CPU core, and a GPU wants few large launches
_CPU_BLOCK = 2**18
_GPU_BLOCK = 2**24


class CrossCorrelationLoss(nn.Module):
    """Barlow Twins loss of two feature maps whose voxels correspond.

    With the cross-correlation matrix C of `cross_correlation`::

        L = sum_i (1 - C_ii)^2 + redundancy_weight * scale * sum_i sum_{j != i} C_ij^2

    Source: MixCL Eq 4 and 5. Read differently from print: the second sum has C_ij where C_ii is printed, and channels
    are centred before they are correlated, both as in the code of Barlow Twins (Zbontar et al. 2021).

    Args:
        redundancy_weight: weight of the off-diagonal sum, lambda of Eq 4. MixCL gives no value; 0.0051 is that of
            Barlow Twins.
        off_diagonal_scale: ``"none"`` for Eq 4 as it stands; ``"channels"`` divides the off-diagonal sum by C - 1, so
            that wide layers with few voxels, whose C cannot be diagonal, do not outweigh the others.
        eps: added to each channel's variance, so that a constant channel has correlation 0 and no gradient.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        *,
        redundancy_weight: float = 0.0051,
        off_diagonal_scale: Literal["none", "channels"] = "none",
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        if not redundancy_weight >= 0:
            raise InputError("redundancy_weight", f"{redundancy_weight} is not >= 0", "give 0 or a positive number")
        if off_diagonal_scale not in ("none", "channels"):
            raise InputError("off_diagonal_scale", f"{off_diagonal_scale!r} is unknown", "give 'none' or 'channels'")
        if not eps > 0:
            raise InputError("eps", f"{eps} is not > 0", "give a small positive number such as 1e-8")
        self.redundancy_weight = redundancy_weight
        self.off_diagonal_scale = off_diagonal_scale
        self.eps = eps

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compute the loss over all voxels of the batch, and of all processes' batches.

        Args:
            first: features of one view, shape ``B C *spatial``.
            second: features of the other view, same shape; voxel k of both shows the same tissue.

        Returns:
            Scalar in float32 (float64 for float64 input), equal on all processes.
        """
        dtype = _result_dtype(first, second)
        # 1 - C_ii cancels as the views agree, so the C x C arithmetic stays in float64
        correlation = _correlate(first, second, self.eps)
        diagonal = correlation.diagonal()
        off_diagonal = correlation - torch.diag(diagonal)
        scale = self.redundancy_weight
        if self.off_diagonal_scale == "channels":
            scale /= max(correlation.shape[0] - 1, 1)
        return ((1 - diagonal).square().sum() + scale * off_diagonal.square().sum()).to(dtype)

    def extra_repr(self) -> str:
        """Options, for printing the module."""
        return f"redundancy_weight={self.redundancy_weight}, off_diagonal_scale={self.off_diagonal_scale!r}"


def cross_correlation(first: Tensor, second: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Correlate each channel of one feature map with each channel of another, over all voxels of the joint batch.

    ``C_ij = cov(first_i, second_j) / sqrt((var(first_i) + eps) (var(second_j) + eps))``, moments with divisor M,
    the number of voxels in the batches of all processes (MixCL Eq 5, centred). Differentiable.

    Args:
        first: shape ``B C *spatial``, any floating dtype.
        second: same shape.
        eps: added to each variance.

    Returns:
        Shape ``C C``, rows for `first`, float32 (float64 for float64 input).
    """
    return _correlate(first, second, eps).to(_result_dtype(first, second))


def _correlate(first: Tensor, second: Tensor, eps: float) -> Tensor:
    if first.shape != second.shape or first.dim() < 2:
        raise InputError(
            "cross-correlation",
            f"feature maps of shapes {tuple(first.shape)} and {tuple(second.shape)}",
            "give two of the same shape (batch, channels, *spatial)",
        )
    correlation: Tensor = _Correlation.apply(first, second, eps)  # type: ignore[no-untyped-call]
    return correlation


def _result_dtype(first: Tensor, second: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)


def _blocks(tensor: Tensor) -> Iterator[tuple[int, slice]]:
    """Sample index and range of voxels of each block of a ``B C V`` tensor."""
    batch, channels, voxels = tensor.shape
    elements = _GPU_BLOCK
    if tensor.device.type == "cpu":
        # threads wait for each other after every operation, so that several of them want fewer, larger ones
        elements = _CPU_BLOCK if torch.get_num_threads() == 1 else 4 * _CPU_BLOCK
    size = max(elements // channels, 256)
    for sample in range(batch):
        for start in range(0, voxels, size):
            yield sample, slice(start, min(start + size, voxels))


class _Correlation(torch.autograd.Function):
    """C x C correlation in float64; keeps its inputs and C x C matrices for backward."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, eps: float) -> Tensor:
        dtype = _result_dtype(first, second)
        one, two = (tensor.flatten(2) if tensor.dim() > 2 else tensor.unsqueeze(2) for tensor in (first, second))
        channels = first.shape[1]
        product = torch.zeros(channels, channels, dtype=torch.float64, device=first.device)
        squares = product.new_zeros(2, channels)
        counts, block_means = [], []
        with torch.autocast(first.device.type, enabled=False):
            # each block is centred by its own means; the means' own spread is added after the loop (Chan et al. 1983)
            for sample, voxels in _blocks(one):
                x, y = one[sample, :, voxels].to(dtype), two[sample, :, voxels].to(dtype)
                x_mean, y_mean = x.mean(1), y.mean(1)
                x, y = x - x_mean[:, None], y - y_mean[:, None]
                product += x @ y.T
                squares += torch.stack(
                    [torch.linalg.vector_norm(x, dim=1), torch.linalg.vector_norm(y, dim=1)]
                ).square()
                counts.append(x.shape[1])
                block_means.append(torch.stack([x_mean, y_mean]))
            weights = product.new_tensor(counts)[:, None]
            blocks = torch.stack(block_means).to(torch.float64)  # blocks, 2, C
            totals = all_reduce_sum(torch.cat([(weights[:, None] * blocks).sum(0).flatten(), weights.sum(0)]))
            count = totals[-1]
            means = totals[:-1].view(2, channels) / count
            x_means, y_means = (blocks - means).unbind(1)
            product += (weights * x_means).T @ y_means
            squares += torch.stack([(weights * x_means * x_means).sum(0), (weights * y_means * y_means).sum(0)])
            moments = all_reduce_sum(torch.cat([product, squares])) / count
            x_scale, y_scale = (moments[channels:] + eps).rsqrt()
            correlation: Tensor = moments[:channels] * x_scale[:, None] * y_scale
        ctx.save_for_backward(first, second, correlation, means, x_scale, y_scale, count)
        return correlation

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        first, second, correlation, means, x_scale, y_scale, count = ctx.saved_tensors
        dtype = _result_dtype(first, second)
        gradient = all_reduce_sum(gradient)
        # with centred x, y:  dL/dx = cross y - x_self x  and  dL/dy = cross^T x - y_self y
        cross = (gradient * x_scale[:, None] * y_scale / count).to(dtype)
        through_scale = gradient * correlation / count
        x_self = (through_scale.sum(1) * x_scale.square()).to(dtype)[:, None]
        y_self = (through_scale.sum(0) * y_scale.square()).to(dtype)[:, None]
        x_mean, y_mean = means.to(dtype)[:, :, None]
        one, two = (tensor.flatten(2) if tensor.dim() > 2 else tensor.unsqueeze(2) for tensor in (first, second))
        x_gradient = torch.empty_like(one) if ctx.needs_input_grad[0] else None
        y_gradient = torch.empty_like(two) if ctx.needs_input_grad[1] else None
        for sample, voxels in _blocks(one):
            x, y = one[sample, :, voxels].to(dtype) - x_mean, two[sample, :, voxels].to(dtype) - y_mean
            if x_gradient is not None:
                x_gradient[sample, :, voxels] = (cross @ y).addcmul_(x, x_self, value=-1)
            if y_gradient is not None:
                y_gradient[sample, :, voxels] = (cross.T @ x).addcmul_(y, y_self, value=-1)
        return (
            None if x_gradient is None else x_gradient.view(first.shape),
            None if y_gradient is None else y_gradient.view(second.shape),
            None,
        )
