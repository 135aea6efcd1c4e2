"""How far up the scan a slice lies."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import mse_loss

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.tasks.pooled_head import PooledHead
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["SlicePosition"]


class SlicePosition(Task):
    r"""Squared error between the position of a slice in its scan and what the coarsest feature map tells of it.

    .. math:: L = \frac{1}{B} \sum_i (p_i - \hat p_i)^2

    Source: Chia, Gu, Lui 2022, Eq. 4. Our readings: the head is the mean over voxels of the coarsest feature map and
    two linear layers; the position is the slice's index over the last index of the scan, in [0, 1], because the loss of
    raw indices would be thousands of times that of the segmentation.

    Args:
        view: the view it reads; it has ``slice_position``, B.
        hidden: width of the head's inner layer.

    Raises:
        InputError: if `hidden` is below 1; at a step, if the view has no ``slice_position``.
    """

    def __init__(self, *, view: str = "patch", hidden: int = 128) -> None:
        if hidden < 1:
            raise InputError("hidden", f"is {hidden}", "give the width of a layer, 1 or more")
        super().__init__(views=(view,), needs="encoded", levels=(-1,))
        self.hidden = hidden

    def setup(self, network: Any) -> None:
        """Build the head."""
        self.head = PooledHead(network.level_channels[-1], hidden=self.hidden, features=1)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``slice_position``; ``slice_position/mean_absolute_error`` of the joint batch over all processes."""
        (view,) = self.views
        if "slice_position" not in views[view]:
            raise InputError(f"view {view}", "has no slice_position", "draw slices, for example with EverySlice")
        predicted = self.head(features[view].encoded)[:, 0]
        position = views[view]["slice_position"].to(predicted.dtype)
        with torch.no_grad():
            errors = (predicted - position).abs()
            total, count = all_reduce_sum(torch.stack([errors.sum(), errors.new_tensor(len(errors))]))
        outputs = {"slice_position/mean_absolute_error": total / count}
        return TaskOutput({"slice_position": mse_loss(predicted, position)}, outputs)
