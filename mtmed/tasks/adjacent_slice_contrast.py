"""Which slice is next to this one? Contrast of neighbouring slices within a batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.losses import InfoNCELoss
from mtmed.tasks.pooled_head import PooledHead
from mtmed.tasks.slice_pairs import require_pairs
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["AdjacentSliceContrast"]


class AdjacentSliceContrast(Task):
    """Each slice finds its neighbour among the partners of all pairs of its group, by the cosine of embeddings.

    Samples 2i and 2i + 1 of a batch are neighbouring slices, as `mtmed.data.AdjacentSlices` draws them; pairs with the
    same number in ``group`` are of one scan (or patient) and compared with each other. See `InfoNCELoss`.

    Source: Chia, Gu, Lui 2022, Section 4.2.2, with SimCLR's projection of the coarsest feature map: the mean over
    voxels, a layer as wide as the map, ReLU, and a layer to the embedding. The paper leaves all three open.

    Args:
        view: the view it reads.
        temperature: of the similarities.
        features: length of the embedding.

    Raises:
        InputError: if an option is out of range; at a step, if the batch does not consist of pairs.
    """

    def __init__(self, *, view: str = "patch", temperature: float = 0.1, features: int = 128) -> None:
        if features < 1:
            raise InputError("features", f"is {features}", "give the length of the embedding, 1 or more")
        super().__init__(views=(view,), needs="encoded", levels=(-1,))
        self.features = features
        self.loss = InfoNCELoss(temperature=temperature)

    def setup(self, network: Any) -> None:
        """Build the projector."""
        channels = network.level_channels[-1]
        self.projector = PooledHead(channels, hidden=channels, features=self.features)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``contrast``; ``contrast/accuracy``, the share of slices that find their neighbour.

        As a picture: ``contrast/similarity``, the cosines of the first group, rows for samples 2i, columns for 2i + 1.
        """
        (view,) = self.views
        require_pairs(views[view])
        embedded = self.projector(features[view].encoded)
        a, b = embedded[0::2], embedded[1::2]
        group = torch.zeros(len(a), dtype=torch.int64, device=a.device)
        if "group" in views[view]:
            group = views[view]["group"][0::2]
        outputs = self._look_at(a.detach(), b.detach(), group, pictures=context.pictures)
        return TaskOutput({"contrast": self.loss(a, b, group)}, outputs)

    @torch.no_grad()
    def _look_at(self, a: Tensor, b: Tensor, group: Tensor, *, pictures: bool) -> dict[str, Tensor]:
        with torch.autocast(a.device.type, enabled=False):
            similarity = normalize(a, dim=1) @ normalize(b, dim=1).T
        within = similarity.masked_fill(group[:, None] != group, -torch.inf)
        own = torch.arange(len(a), device=a.device)
        hits = (within.argmax(1) == own).sum() + (within.argmax(0) == own).sum()
        found, count = all_reduce_sum(torch.stack([hits, hits.new_tensor(2 * len(a))]).double())
        outputs = {"contrast/accuracy": found / count}
        if pictures:
            first = group == group[0]
            outputs["contrast/similarity"] = similarity[first][:, first]
        return outputs
