"""Regression of the distance to the boundary of each organ."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from mtmed.distributed import all_reduce_sum, world_size
from mtmed.errors import InputError
from mtmed.tasks.label_masks import label_masks
from mtmed.tasks.mask_distance import mask_distance
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["DistanceMap"]

_OUTER_SCALE = 100.0


class DistanceMap(Task):
    r"""Mean absolute error of the distance to the boundary of each organ, inside or outside it.

    With :math:`\Omega` the organ (``side="inner"``) or all voxels outside it (``"outer"``), the target is

    .. math:: D(v) = \frac{1}{s} \min_{u \notin \Omega} \lVert v - u \rVert \text{ for } v \in \Omega, \text{ else } 0,

    in voxels of the view, and with the predicted map P the loss is

    .. math:: L = \frac{1}{|R|} \sum_{v \in R} |P(v) - D(v)|, \qquad R = \{v : D(v) > 0 \text{ or } P(v) > 0\}

    over all organs and images of the joint batch, 0 where R is empty. So where the target is 0, any prediction up to 0
    is right. The edge of the image is no boundary. An image without the organ has an inner map of 0 and no outer one:
    it is left out there, as is, for the inner map, an image that the organ fills. Encoder and decoder are the
    network's, a 1x1 convolution is the task's own. It needs labels; `Rotation` is the substitute that needs none.

    Source: the maps ``sdmin`` and ``sdmout`` of the code that the first author of Hu, Qin 2024 (arXiv 2402.07119)
    published later: the loss, and a scale s of 100 voxels for the outer map. Our readings: s of the inner map is its
    largest value in the image, so that small organs count like large ones; the maps of several organs are predicted
    side by side, and start a little below 0.

    Distances are computed on the CPU, from the label after the geometry.

    Args:
        view: the view it reads; it has a ``label``.
        side: ``"inner"`` or ``"outer"``.
        organs: number of organs.
        scale: s in voxels; None for the largest value of the image (inner) or 100 voxels (outer).
        overlapping: the label is packed masks (see `mtmed.organ_masks`), else its values are exclusive and organ k has
            the value k + 1.

    Raises:
        ValueError: if `side` is unknown.
        InputError: if there is no organ or `scale` is not positive; at a step, if the view has no label.
    """

    def __init__(
        self,
        *,
        view: str = "auxiliary",
        side: Literal["inner", "outer"] = "inner",
        organs: int = 1,
        scale: float | None = None,
        overlapping: bool = True,
    ) -> None:
        if side not in ("inner", "outer"):
            raise ValueError(f'side is {side!r}; allowed are "inner" and "outer".')
        if organs < 1:
            raise InputError("organs", f"is {organs}", "give the number of organs, 1 or more")
        if scale is not None and not 0 < scale < float("inf"):
            raise InputError("scale", f"is {scale}", "give a positive number of voxels, for example 100")
        super().__init__(views=(view,), needs="decoded")
        self.side = side
        self.organs = organs
        self.scale = _OUTER_SCALE if scale is None and side == "outer" else scale
        self.overlapping = overlapping

    def setup(self, network: Any) -> None:
        """Build the 1x1 convolution from decoded features to one map per organ."""
        self.head = Conv[Conv.CONV, network.spatial_dims](network.decoder_channels, self.organs, kernel_size=1)
        # from maps around 0 the first steps would push down the whole background, and the organs' features with it
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, -0.1)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``inner_distance`` or ``outer_distance``; predicted and true maps, B organs H W [D], as pictures."""
        (view,) = self.views
        decoded = features[view].decoded
        assert decoded is not None
        predicted = self.head(decoded).float()
        target, defined = self._targets(label_masks(view, views[view], self.organs, overlapping=self.overlapping))
        region = ((target > 0) | (predicted.detach() > 0)) & defined
        total = ((predicted - target).abs() * region).sum()
        # divided by the share of a process, so that the mean over processes is that of the joint batch
        count = all_reduce_sum(region.sum().to(total.dtype)) / world_size()
        name = f"{self.side}_distance"
        outputs = {}
        if context.pictures:
            outputs = {f"{name}/{view}": predicted.detach(), f"{name}_target/{view}": target}
        return TaskOutput({name: total / count.clamp_min(1 / world_size())}, outputs)

    @torch.no_grad()
    def _targets(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled distances, B organs H W [D], and which of them are defined, B organs 1 1 [1]."""
        regions = (masks if self.side == "inner" else ~masks).cpu().numpy()
        maps = np.zeros(regions.shape, np.float32)
        defined = np.zeros((*regions.shape[:2], *[1] * (regions.ndim - 2)), np.bool_)
        for place in np.ndindex(*regions.shape[:2]):
            distance = mask_distance(regions[place])
            if distance is not None:
                scale = distance.max() if self.scale is None else self.scale
                maps[place] = distance / scale if scale > 0 else 0
                defined[place] = True
        return torch.from_numpy(maps).to(masks.device), torch.from_numpy(defined).to(masks.device)
