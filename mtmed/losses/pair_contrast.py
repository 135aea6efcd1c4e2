"""Contrast of pairs: embeddings of equal kind come together, those of unequal kind stay a margin apart."""

import torch
from torch import Tensor, nn

from mtmed.errors import InputError

__all__ = ["PairContrastiveLoss", "pair_distance"]


class PairContrastiveLoss(nn.Module):
    r"""Contrastive loss of pairs of embeddings a, b with y = 1 for a pair of equal kind and 0 for one of unequal kind.

    .. math:: L = \frac{1}{B} \sum_i y_i d_i^2 + (1 - y_i) \max(0, m - d_i)^2, \quad d_i = \lVert a_i - b_i \rVert_2

    Source: Dhere and Sivaswamy 2021 (arXiv 2101.05456), after Hadsell et al. 2006. Read differently from print: the
    distance is the norm, not its square, which the loss squares again, and the margin's term is squared as a whole,
    both as in the author's code. A pair of unequal kind in the same place (d = 0) has no direction to part in: its loss
    is m^2, its gradient 0.

    Args:
        margin: distance m from which a pair of unequal kind costs nothing.

    Raises:
        InputError: if the margin is not positive and finite.
    """

    def __init__(self, *, margin: float = 1.0) -> None:
        super().__init__()
        if not 0 < margin < float("inf"):
            raise InputError("margin", f"is {margin}", "give a positive number, 1 in the paper")
        self.margin = margin

    def forward(self, a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            a: embeddings, B F.
            b: their partners, B F.
            same: whether a pair is of equal kind, B, boolean or 0 and 1.

        Returns:
            Scalar in float32 (float64 for float64 input).

        Raises:
            ValueError: if shapes do not fit or there is no pair.
        """
        if a.shape != b.shape or a.dim() != 2 or same.shape != a.shape[:1] or not len(a):
            found = f"{tuple(a.shape)}, {tuple(b.shape)} and {tuple(same.shape)}"
            raise ValueError(f"Shapes are {found}; give two batches B F of embeddings and B flags, B >= 1.")
        with torch.autocast(a.device.type, enabled=False):
            distance = pair_distance(a, b)
            closeness = (self.margin - distance).clamp(min=0)
            return torch.where(same.bool(), distance.square(), closeness.square()).mean()


def pair_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of each pair of rows, B, in float32 at least; its gradient is 0 where it is 0."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    distance: Tensor = torch.linalg.vector_norm(a.to(dtype) - b.to(dtype), dim=1)
    return distance
