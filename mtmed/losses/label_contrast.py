"""Label consistency of MixCL: voxels of one class attract, voxels of other classes of the same data set repel.

Source: Li, Quan, Zhou 2022 (arXiv 2203.02114), Section 2.3.2 and Eq 6, on voxels drawn by
`mtmed.losses.pixel_sampling`.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtmed.distributed import all_reduce_sum, gather_with_gradient
from mtmed.errors import InputError

__all__ = ["LabelContrastLoss", "label_relation"]

# exponentials are taken of s - 1 / temperature, which lies between -2 / temperature and 0
_LOWEST_TEMPERATURE = 0.003  # exp(-667) is still a float64
_LOWEST_SINGLE_TEMPERATURE = 0.025  # exp(-80) is still a float32


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

    Voxels of one class and group have the same relations, so the sums over partners are a product of the N x M
    exponentials and an M x K matrix that says which of the K classes each partner has; no N x M mask is made.

    Args:
        temperature: tau, at least 0.003; 0.1 in the paper.
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
        if not temperature >= _LOWEST_TEMPERATURE:
            problem = f"{temperature} is not >= {_LOWEST_TEMPERATURE}"
            raise InputError("temperature", problem, "give a larger number, 0.1 in the paper")
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
        result = torch.promote_types(torch.promote_types(anchors.dtype, partners.dtype), torch.float32)
        dtype = torch.float64 if self.temperature < _LOWEST_SINGLE_TEMPERATURE else result
        with torch.autocast(anchors.device.type, enabled=False):
            anchors = functional.normalize(anchors.to(dtype), dim=1)
            partners = gather_with_gradient(functional.normalize(partners.to(dtype), dim=1))
            tags = gather_with_gradient(torch.stack([partner_labels.long(), partner_groups.long()], dim=1))
            tags = torch.cat([torch.stack([anchor_labels.long(), anchor_groups.long()], dim=1), tags])
            relation, kinds = self._relation_of_kinds(tags)
            anchor_kinds, partner_kinds = kinds[: len(anchors)], kinds[len(anchors) :]
            membership = functional.one_hot(partner_kinds, len(relation)).to(dtype)
            positive, compared = (relation == 1).to(dtype), (relation != -1).to(dtype)
            positives = (positive @ membership.sum(0))[anchor_kinds]
            counts = all_reduce_sum(torch.stack([(positives > 0).sum(), positives.sum().long()]))
            if not counts.any():
                # every process comes here, and all collectives that backward needs lie before this line
                return ((anchors.sum() + partners.sum()) * 0).to(result)
            if self.form != "printed":
                rows = (positives > 0).nonzero().squeeze(1)
                anchors, anchor_kinds, positives = anchors.index_select(0, rows), anchor_kinds[rows], positives[rows]
            positive, compared = positive[anchor_kinds], compared[anchor_kinds]
            shift = anchors.new_tensor(-1 / self.temperature)
            similarity = torch.addmm(shift, anchors, partners.T, alpha=1 / self.temperature)
            sums = similarity.exp() @ membership  # anchors, kinds
            everything = (sums * compared).sum(1)
            if self.form == "printed":
                logs = all_reduce_sum(torch.stack([(sums * positive).sum(), everything.sum()])).log()
                return (logs[1] - logs[0]).to(result)
            if self.form == "log_out":
                attraction = (similarity @ membership * positive).sum(1) / positives
            else:
                attraction = (sums * positive).sum(1).log()
            return (all_reduce_sum((everything.log() - attraction).sum()) / counts[0]).to(result)

    def _relation_of_kinds(self, tags: Tensor) -> tuple[Tensor, Tensor]:
        """Relation between the kinds (pairs of label and group) among voxels ``N 2``, and the kind of each voxel."""
        if not len(tags):
            return tags.new_full((1, 1), -1), tags.new_zeros(0)
        base = tags[:, 0].amax() + 1
        codes, kinds = torch.unique(tags[:, 1] * base + tags[:, 0], return_inverse=True)
        labels, groups = codes % base, codes.div(base, rounding_mode="floor")
        return label_relation(labels, groups, labels, groups, background=self.background), kinds
