"""Contrast of pairs against the other pairs of their group: which of the others is my partner?"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mtmed.distributed import all_reduce_sum, gather_with_gradient, rank
from mtmed.errors import InputError

__all__ = ["InfoNCELoss"]


class InfoNCELoss(nn.Module):
    r"""InfoNCE across pairs of embeddings a, b: each a finds its b among those of its group, and each b its a.

    With the cosine similarity :math:`s_{ij}` of :math:`a_i` and :math:`b_j`, and G(i) the n pairs in the group of i,

    .. math:: L = -\frac{1}{2N} \sum_i \left[ \log \frac{e^{s_{ii}/\tau}}{\sum_{j \in G(i)} e^{s_{ij}/\tau}} +
                  \log \frac{e^{s_{ii}/\tau}}{\sum_{j \in G(i)} e^{s_{ji}/\tau}} \right].

    So there is one positive and there are n - 1 negatives: 16 pairs make rows of 1 + 15. This is not NT-Xent
    (SimCLR), which has all 2n - 2 other embeddings as negatives. A group of one pair has the loss 0.

    Source: Chia, Gu, Lui 2022, Eq. 5. Read differently from print, where similarity, temperature and the index of the
    negatives are missing: the cosine over a temperature, as in SimCLR; both directions are averaged.

    Args:
        temperature: tau.

    Raises:
        InputError: if the temperature is not positive and finite.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise InputError("temperature", f"is {temperature}", "give a positive number, for example 0.1")
        self.temperature = temperature

    def forward(self, a: Tensor, b: Tensor, group: Tensor | None = None) -> Tensor:
        """Compute the loss; with several processes, over the pairs of all of them.

        Args:
            a: embeddings, N F.
            b: their partners, N F.
            group: number of the group of each pair, valid over all processes, N; None for one group.

        Returns:
            Scalar in float32 (float64 for float64 input), equal on all processes.

        Raises:
            ValueError: if shapes do not fit or there is no pair.
        """
        if group is None:
            group = torch.zeros(len(a), dtype=torch.int64, device=a.device)
        if a.shape != b.shape or a.dim() != 2 or group.shape != a.shape[:1] or not len(a):
            found = f"{tuple(a.shape)}, {tuple(b.shape)} and {tuple(group.shape)}"
            raise ValueError(f"Shapes are {found}; give two batches N F of embeddings and N groups, N >= 1.")
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        with torch.autocast(a.device.type, enabled=False):
            a, b = normalize(a.to(dtype), dim=1), normalize(b.to(dtype), dim=1)
            tags = gather_with_gradient(torch.stack([group.long(), torch.full_like(group.long(), rank())], dim=1))
            own = torch.arange(len(a), device=a.device) + (tags[:, 1] < rank()).sum()
            foreign = group[:, None] != tags[:, 0]
            terms = [
                cross_entropy(
                    (anchors @ gather_with_gradient(partners).T / self.temperature).masked_fill(foreign, -torch.inf),
                    own,
                    reduction="sum",
                )
                for anchors, partners in ((a, b), (b, a))
            ]
            total, count = all_reduce_sum(torch.stack([terms[0] + terms[1], a.new_tensor(2.0 * len(a))]))
            loss: Tensor = total / count
        return loss
