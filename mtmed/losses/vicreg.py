"""VICReg: embeddings of two views agree, vary over the batch, and their features are not correlated."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtmed.distributed import gather_with_gradient
from mtmed.errors import InputError

__all__ = ["VICRegLoss", "VICRegTerms"]

_EPSILON = 1e-4


class VICRegTerms(NamedTuple):
    """The three terms before they are weighted, scalars."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


class VICRegLoss(nn.Module):
    r"""Variance-invariance-covariance regularisation of two batches of embeddings Z and Z', n x d.

    .. math::
        s &= \frac{1}{nd} \sum_i \lVert z_i - z'_i \rVert^2, \\
        v(Z) &= \frac{1}{2d} \sum_j \max(0, 1 - \sqrt{\text{Var}(z^j) + 10^{-4}}), \\
        c(Z) &= \frac{1}{d} \sum_{j \neq k} \text{Cov}(Z)_{jk}^2, \\
        L &= \lambda s + \mu\, (v(Z) + v(Z')) + \nu\, (c(Z) + c(Z')).

    Variance and covariance have the divisor n - 1 and are those of the joint batch of all processes.

    Source: Bardes, Ponce, LeCun 2022 (arXiv 2105.04906). Eq. 5 prints s without the d and Eq. 1 prints v without the
    2; we follow the authors' code, for which the weights 25, 25 and 1 are meant.

    Args:
        weights: lambda, mu and nu.
        normalised: divide the weights by their sum, so that the loss has the size of the others of a run.

    Raises:
        InputError: if the weights are not three finite numbers from 0, of which one is positive.
    """

    def __init__(self, *, weights: Sequence[float] = (25.0, 25.0, 1.0), normalised: bool = True) -> None:
        super().__init__()
        if len(weights) != 3 or not all(0 <= weight < float("inf") for weight in weights) or not sum(weights) > 0:
            problem = f"are {list(weights)}"
            raise InputError("weights", problem, "give invariance, variance and covariance, for example 25, 25 and 1")
        divisor = sum(weights) if normalised else 1.0
        self.weights = tuple(weight / divisor for weight in weights)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the loss; see `terms`."""
        return self.weighted(self.terms(a, b))

    def weighted(self, terms: VICRegTerms) -> Tensor:
        """Sum of the terms by their weights."""
        return torch.stack([weight * term for weight, term in zip(self.weights, terms, strict=True)]).sum()

    def terms(self, a: Tensor, b: Tensor) -> VICRegTerms:
        """Compute the terms; with several processes, over the embeddings of all of them.

        Args:
            a: embeddings of one view, N F.
            b: those of the other, N F.

        Returns:
            Scalars in float32 (float64 for float64 input), equal on all processes; variance and covariance are sums
            over both views.

        Raises:
            ValueError: if shapes do not fit.
            InputError: if there is one pair in all, which has no variance.
        """
        if a.shape != b.shape or a.dim() != 2:
            raise ValueError(f"Shapes are {tuple(a.shape)} and {tuple(b.shape)}; give two batches N F of embeddings.")
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        with torch.autocast(a.device.type, enabled=False):
            joint = gather_with_gradient(torch.stack([a.to(dtype), b.to(dtype)], dim=1))
            count, _, features = joint.shape
            if count < 2:
                raise InputError("batch_size", "is 1, which has no variance", "give 2 or more")
            centred = joint - joint.mean(0)
            deviation = (centred.square().sum(0) / (count - 1) + _EPSILON).sqrt()
            covariance = torch.einsum("nvf,nvg->vfg", centred, centred) / (count - 1)
            off_diagonal = covariance - torch.diag_embed(covariance.diagonal(dim1=1, dim2=2))
            return VICRegTerms(
                (joint[:, 0] - joint[:, 1]).square().mean(),
                (1 - deviation).relu().mean(1).sum() / 2,
                off_diagonal.square().sum() / features,
            )

    def extra_repr(self) -> str:
        """Options, for printing the module."""
        return f"weights={self.weights}"
