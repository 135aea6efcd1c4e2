"""Label consistency of MixCL: voxels of one class attract, voxels of other classes of the same data set repel.

Source: Li, Quan, Zhou 2022 (arXiv 2203.02114), Section 2.3.2 and Eq 6, on voxels drawn by
`mtmed.losses.pixel_sampling`.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtmed.distributed import all_reduce_max, all_reduce_sum, gather_with_gradient
from mtmed.errors import InputError

__all__ = ["LabelContrastLoss", "label_relation"]


def label_relation(
    anchor_labels: Tensor,
    anchor_groups: Tensor,
    partner_labels: Tensor,
    partner_groups: Tensor,
    *,
    background: Literal["negative", "ignore"] = "negative",
) -> Tensor:
    """Relate each anchor to each partner by their labels (relation matrix A, MixCL Fig 2d).

    ===================================  ======================================
    pair of the same group               relation
    ===================================  ======================================
    foreground, same class               1, positive
    foreground, other class              0, negative
    foreground and background            0, negative (-1 with ``"ignore"``)
    background and background            -1, ignored
    ===================================  ======================================

    Pairs of different groups are ignored: a class that one data set labels is background in another.

    Args:
        anchor_labels: label values, 0 is background, shape ``N``.
        anchor_groups: group numbers, shape ``N``: the index of the data set, or of the sample in the joint batch to
            compare within samples only.
        partner_labels: shape ``M``.
        partner_groups: shape ``M``.
        background: what a foreground voxel and a background voxel are to each other.

    Returns:
        int8, shape ``N M``.
    """
    same_class = anchor_labels[:, None] == partner_labels
    some_background = (anchor_labels == 0)[:, None] | (partner_labels == 0)
    ignored = (anchor_groups[:, None] != partner_groups) | (some_background & same_class)
    if background == "ignore":
        ignored |= some_background
    return same_class.to(torch.int8).masked_fill(ignored, -1)


class LabelContrastLoss(nn.Module):
    """Supervised contrast between voxels of two patches, over the joint batch of all processes.

    With s_ij the cosine similarity of anchor i and partner j divided by the temperature, P(i) the positives and N(i)
    the negatives of `label_relation`, the forms are::

        per_anchor  mean_i  -log( sum_{j in P(i)} exp s_ij / sum_{k in P(i) or N(i)} exp s_ik )
        log_out     mean_i  mean_{j in P(i)} -log( exp s_ij / sum_{k in P(i) or N(i)} exp s_ik )
        printed     -log( sum_{all positive pairs} exp s_ij / sum_{all positive and negative pairs} exp s_ik )

    Means are over the anchors that have a positive. Source: MixCL Eq 6. Read differently from print: both vectors
    carry the index of the first patch there, while the text compares the two patches; and the one logarithm of two
    global sums (``"printed"``) leaves anchors without a say of their own, so the default takes it per anchor.
    ``"log_out"`` is the form of supervised contrast (Khosla et al. 2020).

    Args:
        temperature: tau, 0.1 in the paper.
        form: see above.
        background: whether background voxels are negatives of foreground voxels or take no part.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        form: Literal["per_anchor", "log_out", "printed"] = "per_anchor",
        background: Literal["negative", "ignore"] = "negative",
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError("temperature", f"{temperature} is not > 0", "give a positive number, 0.1 in the paper")
        if form not in ("per_anchor", "log_out", "printed"):
            raise InputError("form", f"{form!r} is unknown", "give 'per_anchor', 'log_out' or 'printed'")
        if background not in ("negative", "ignore"):
            raise InputError("background", f"{background!r} is unknown", "give 'negative' or 'ignore'")
        self.temperature = temperature
        self.form = form
        self.background: Literal["negative", "ignore"] = background

    def forward(
        self,
        anchors: Tensor,
        anchor_labels: Tensor,
        anchor_groups: Tensor,
        partners: Tensor,
        partner_labels: Tensor,
        partner_groups: Tensor,
    ) -> Tensor:
        """Compute the loss; with several processes, anchors stay on theirs and partners are gathered.

        Args:
            anchors: feature vectors of the first patches, shape ``N C``; N may be 0 and differ between processes.
            anchor_labels: label values, shape ``N``.
            anchor_groups: group numbers, valid over all processes, shape ``N`` (see `label_relation`).
            partners: feature vectors of the second patches, shape ``M C``; M may be 0 and differ between processes.
            partner_labels: shape ``M``.
            partner_groups: shape ``M``.

        Returns:
            Scalar in float32 (float64 for float64 input), equal on all processes. Without any positive pair it is 0,
            and still attached to the graph.
        """
        dtype = torch.promote_types(torch.promote_types(anchors.dtype, partners.dtype), torch.float32)
        with torch.autocast(anchors.device.type, enabled=False):
            partners = gather_with_gradient(functional.normalize(partners.to(dtype), dim=1))
            tags = gather_with_gradient(torch.stack([partner_labels.long(), partner_groups.long()], dim=1))
            relation = label_relation(
                anchor_labels.long(), anchor_groups.long(), tags[:, 0], tags[:, 1], background=self.background
            )
            similarity = functional.normalize(anchors.to(dtype), dim=1) @ partners.T / self.temperature
            counts = all_reduce_sum(torch.stack([(relation == 1).any(dim=1).sum(), (relation == 1).sum()]))
            if not counts.any():
                # every process comes here, and all collectives that backward needs lie before this line
                return similarity.sum() * 0
            if self.form == "printed":
                return self._one_ratio(similarity, relation)
            return all_reduce_sum(self._sum_over_anchors(similarity, relation)) / counts[0]

    def _sum_over_anchors(self, similarity: Tensor, relation: Tensor) -> Tensor:
        rows = (relation == 1).any(dim=1).nonzero().squeeze(1)
        similarity, relation = similarity.index_select(0, rows), relation[rows]
        positive = relation == 1
        everything = similarity.masked_fill(relation == -1, -torch.inf).logsumexp(dim=1)
        if self.form == "log_out":
            attraction = (similarity * positive).sum(dim=1) / positive.sum(dim=1)
        else:
            attraction = similarity.masked_fill(~positive, -torch.inf).logsumexp(dim=1)
        return (everything - attraction).sum()

    @staticmethod
    def _one_ratio(similarity: Tensor, relation: Tensor) -> Tensor:
        # the largest of each sum over all processes is taken out, so neither sum can overflow or vanish
        masked = torch.stack(
            [similarity.masked_fill(relation != 1, -torch.inf), similarity.masked_fill(relation == -1, -torch.inf)]
        ).flatten(1)
        bottom = masked.new_full((2, 1), -torch.inf)
        largest = all_reduce_max(torch.cat([masked.detach(), bottom], dim=1).amax(dim=1))
        logs = largest + all_reduce_sum((masked - largest[:, None]).exp().sum(dim=1)).log()
        return logs[1] - logs[0]
