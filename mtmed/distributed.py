"""Sums and gathers over processes that gradients pass through, so that n processes train as one on the joint batch.

The convention: each of the W processes computes the same joint loss L from all samples, and `DistributedDataParallel`
replaces each parameter's gradient by the mean over processes. Process r reaches a parameter only through its own
samples z_r, so that mean is the gradient of L exactly if backward delivers W * dL/dz_r to z_r. Both functions here
therefore return in backward the gradient of the *sum of the losses of all processes*, which is W * L under the
convention, by adding up what the processes send back.

Backward communicates too, so every process must build the same graph: call these functions in the same order on
all processes, on tensors that require gradients on all of them or on none, also where a process has no samples.
Without an initialised process group, and with a group of one process, all functions are the identity.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["all_reduce_sum", "barrier", "gather_with_gradient", "rank", "total", "world_size"]


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, counted from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.barrier()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, with gradient.

    Args:
        tensor: any shape, equal on all processes.

    Returns:
        The sum, on every process; `tensor` itself with one process. Backward sums the incoming gradients over all
        processes (see the module's convention).
    """
    if world_size() == 1:
        return tensor
    summed: Tensor = _AllReduceSum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Concatenate the tensors of all processes along the first dimension, in the order of ranks, with gradient.

    Args:
        tensor: shape (n, ...), where n may differ between processes and may be 0; the rest must be equal. Tensors
            that need no gradient (labels) may have any dtype.

    Returns:
        Shape (sum of n, ...) on every process; `tensor` itself with one process. Backward sums the incoming gradients
        over all processes and hands each its own rows (see the module's convention).
    """
    if world_size() == 1:
        return tensor
    counts = torch.zeros(world_size(), dtype=torch.int64, device=tensor.device)
    counts[rank()] = tensor.shape[0]
    dist.all_reduce(counts)
    gathered: Tensor = _Gather.apply(tensor, tuple(counts.tolist()))  # type: ignore[no-untyped-call]
    return gathered


def total(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, without gradient, on whichever device it lies.

    Args:
        tensor: any shape, equal on all processes.

    Returns:
        The sum, on every process and on the tensor's device; `tensor` itself with one process.
    """
    if world_size() == 1:
        return tensor
    # NCCL knows GPUs only
    meeting = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else tensor.device
    summed = tensor.detach().to(meeting, copy=True)
    dist.all_reduce(summed)
    return summed.to(tensor.device)


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce_sum(gradient)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: tuple[int, ...]) -> Tensor:
        ctx.counts = counts
        # gloo gathers equal shapes only: every process pads to the largest
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        start = sum(ctx.counts[: rank()])
        return all_reduce_sum(gradient)[start : start + ctx.counts[rank()]], None
