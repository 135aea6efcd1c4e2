"""Same side or opposite side: the proxy task of siamese kidney pre-training."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.losses import PairContrastiveLoss, pair_distance
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["SameSide"]


class SameSide(Task):
    r"""Tells whether two organs are of the same side of the body, by the distance of their embeddings.

    Both images of a pair pass the same encoder; its coarsest feature map becomes an embedding f, and a contrastive loss
    brings pairs of the same side together and pushes pairs of opposite sides a margin apart (`PairContrastiveLoss`). A
    pair is taken for one of the same side if :math:`\lVert f_1 - f_2 \rVert_2` is below the threshold.

    Source: Dhere and Sivaswamy 2021 (arXiv 2101.05456). The author's code flattens the feature map
    (``embedding="flatten"``), whose distances are far above the margin from the start, so that pairs of opposite sides
    give no gradient, and which fits one image size only. Our default is ``"pooled"``: the mean over voxels, a linear
    layer, and the L2 norm brought to 1, so that distances lie in [0, 2].

    Args:
        views: names of the two views of a pair; each has the side of its organ as ``value``, B.
        embedding: ``"pooled"`` or ``"flatten"``.
        features: length of the pooled embedding.
        margin: distance from which a pair of opposite sides costs nothing.
        threshold: distance below which a pair is taken for one of the same side; 0.75 in the author's code.

    Raises:
        InputError: if an option is out of range.
    """

    def __init__(
        self,
        *,
        views: Sequence[str] = ("first", "second"),
        embedding: Literal["pooled", "flatten"] = "pooled",
        features: int = 128,
        margin: float = 1.0,
        threshold: float = 0.75,
    ) -> None:
        if len(views) != 2:
            raise InputError("SameSide.views", f"has {len(views)} names", "name the two views of a pair")
        if embedding not in ("pooled", "flatten"):
            raise InputError("embedding", f"is {embedding!r}", 'choose "pooled" or "flatten"')
        if features < 1:
            raise InputError("features", f"is {features}", "give the length of the embedding, 1 or more")
        if not 0 < threshold < float("inf"):
            raise InputError("threshold", f"is {threshold}", "give a positive distance, 0.75 in the author's code")
        super().__init__(views=tuple(views), needs="encoded", levels=(-1,))
        self.embedding = embedding
        self.features = features
        self.threshold = threshold
        self.loss = PairContrastiveLoss(margin=margin)

    def setup(self, network: Any) -> None:
        """Build the linear layer of a pooled embedding."""
        if self.embedding == "pooled":
            self.projection = nn.Linear(network.level_channels[-1], self.features)

    def embed(self, encoded: Sequence[Tensor]) -> Tensor:
        """Embedding of each image, B F, in float32 (float64 for float64 input).

        Args:
            encoded: feature maps of the network, fine to coarse; the last is read.
        """
        coarsest = encoded[-1]
        with torch.autocast(coarsest.device.type, enabled=False):
            voxels = coarsest.to(torch.promote_types(coarsest.dtype, torch.float32)).flatten(2)
            if self.embedding == "flatten":
                return voxels.flatten(1)
            return normalize(self.projection(voxels.mean(2)), dim=1)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``same_side``; accuracy and mean distances of the joint batch over all processes.

        ``same_side/distance_same`` and ``same_side/distance_opposite`` are there if the batch has such pairs.
        """
        a, b = (self.embed(features[name].encoded) for name in self.views)
        if a.shape != b.shape:
            sizes = " and ".join(str(list(views[name]["image"].shape[2:])) for name in self.views)
            problem = f"is {self.embedding!r}, and the images of a pair have {sizes} voxels"
            raise InputError("embedding", problem, 'cut both to one size, or choose "pooled"')
        same = torch.eq(*(views[name]["value"].flatten() for name in self.views))
        outputs = self._look_at(pair_distance(a.detach(), b.detach()), same)
        return TaskOutput({"same_side": self.loss(a, b, same)}, outputs)

    @torch.no_grad()
    def _look_at(self, distance: Tensor, same: Tensor) -> dict[str, Tensor]:
        correct = (distance < self.threshold) == same
        kinds = torch.stack([same, ~same]).to(torch.float64)
        sums = [kinds.sum(1), (kinds * distance).sum(1), (kinds * correct).sum(1)]
        pairs, distances, hits = all_reduce_sum(torch.stack(sums))
        outputs = {"same_side/accuracy": hits.sum() / pairs.sum()}
        for name, total, count in zip(("same", "opposite"), distances, pairs, strict=True):
            if count > 0:
                outputs[f"same_side/distance_{name}"] = total / count
        return outputs
