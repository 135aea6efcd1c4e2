"""Segmentation of the contour of each organ."""

from collections.abc import Mapping
from typing import Any

import torch
from monai.losses import DiceLoss
from monai.networks.layers.factories import Conv
from torch import Tensor
from torch.nn.functional import max_pool2d, max_pool3d

from mtmed.errors import InputError
from mtmed.tasks.label_masks import label_masks
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["Contour"]


class Contour(Task):
    r"""Dice loss of the contour of each organ: what one dilation adds to its mask and what one erosion takes away.

    .. math:: c_k = (m_k \oplus B) \text{ xor } (m_k \ominus B), \qquad
        L = \frac{1}{K} \sum_k 1 - \frac{2 \sum_{b, v} p_{bk} c_{bk}}{\sum_{b, v} p_{bk} + c_{bk}}

    over the voxels v of the batch of each process, with a sigmoid p of a 1x1 convolution of the task's own; encoder and
    decoder are the network's. The edge of the image is no contour.

    Source: the task ``contour`` of the code that the first author of Hu, Qin 2024 (arXiv 2402.07119) published later.
    Our readings: the structuring element is the full 3x3 [x3] box, so that a contour is two voxels thick; a channel per
    organ with a sigmoid and MONAI's ``DiceLoss``, where the author has a channel of the background too. It needs
    labels; `Rotation` is a substitute that needs none.

    Args:
        view: the view it reads; it has a ``label``.
        organs: number of organs.
        overlapping: the label is packed masks (see `mtmed.organ_masks`), else its values are exclusive and organ k has
            the value k + 1.

    Raises:
        InputError: if there is no organ; at a step, if the view has no label.
    """

    def __init__(self, *, view: str = "auxiliary", organs: int = 1, overlapping: bool = True) -> None:
        if organs < 1:
            raise InputError("organs", f"is {organs}", "give the number of organs, 1 or more")
        super().__init__(views=(view,), needs="decoded")
        self.organs = organs
        self.overlapping = overlapping
        # over the batch: an image without the organ alone would cost nearly 1 whatever is predicted
        self.loss = DiceLoss(sigmoid=True, batch=True)

    def setup(self, network: Any) -> None:
        """Build the 1x1 convolution from decoded features to one contour per organ."""
        self.head = Conv[Conv.CONV, network.spatial_dims](network.decoder_channels, self.organs, kernel_size=1)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``contour``; the probability of a contour of any organ, B 1 H W [D], as a picture."""
        (view,) = self.views
        decoded = features[view].decoded
        assert decoded is not None
        logits = self.head(decoded).float()
        masks = label_masks(view, views[view], self.organs, overlapping=self.overlapping).to(logits.dtype)
        with torch.autocast(logits.device.type, enabled=False):
            loss = self.loss(logits, _contours(masks))
        outputs = {f"contour/{view}": logits.detach().sigmoid().amax(1, keepdim=True)} if context.pictures else {}
        return TaskOutput({"contour": loss}, outputs)


def _contours(masks: Tensor) -> Tensor:
    """Dilated xor eroded, of masks 0 or 1, B organs H W [D]; MONAI's ``dilate`` takes all organs as one."""
    pool = max_pool3d if masks.dim() == 5 else max_pool2d
    dilated, eroded = pool(masks, 3, stride=1, padding=1), -pool(-masks, 3, stride=1, padding=1)
    return dilated - eroded
