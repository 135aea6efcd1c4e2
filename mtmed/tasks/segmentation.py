"""Segmentation: the task that all others are there to help, and tissue segmentation, which is one of those."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from mtmed.errors import InputError
from mtmed.organ_masks import pack_masks, unpack_masks
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["Segmentation"]

Loss = Callable[[Tensor, Tensor], Tensor]


class Segmentation(Task):
    """Loss between the network's logits and a label map.

    Two of them on one network share all of it but the last layer, if each reads its own `channels` of the logits.

    Args:
        loss: takes logits, B classes H W [D], and labels, B 1 H W [D]; for example ``monai.losses.DiceCELoss``. Several
            losses are given by name. With `overlapping`, they take masks 0 or 1, B organs H W [D], in place of labels.
        view: the view it reads.
        labels: names of the view's label maps. Several of them (raters) are averaged: the loss then gets the share of
            each class, B classes H W [D].
        channels: first channel of the logits that it reads and the one after its last; None for all.
        name: of the loss, if it is one, and of the picture.
        overlapping: the label maps are packed masks of organs that may overlap (see `mtmed.organ_masks`), and each
            channel of the logits is one organ's, for a sigmoid; several label maps give the share of raters. The
            picture is the packed prediction.

    Raises:
        InputError: if there is no loss or no label map.
    """

    def __init__(
        self,
        *,
        loss: Loss | Mapping[str, Loss],
        view: str = "patch",
        labels: Sequence[str] = ("label",),
        channels: Sequence[int] | None = None,
        name: str = "segmentation",
        overlapping: bool = False,
    ) -> None:
        super().__init__(views=(view,), needs="logits")
        self.losses = dict(loss) if isinstance(loss, Mapping) else {name: loss}
        # registered, so that class weights in them move to the device
        self.loss_modules = nn.ModuleList(one for one in self.losses.values() if isinstance(one, nn.Module))
        self.labels = tuple(labels)
        self.channels = slice(None) if channels is None else slice(*channels)
        self.name = name
        self.overlapping = overlapping
        if not self.losses or not self.labels:
            raise InputError(f"tasks::{name}", "has no loss or no label map", "name at least one of each")

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """The losses by name; the prediction, B 1 H W [D], as a picture."""
        (view,) = self.views
        logits = features[view].logits
        assert logits is not None
        logits = logits[:, self.channels].float()
        target = self._target(views[view], logits.shape[1])
        losses = {name: loss(logits, target) for name, loss in self.losses.items()}
        picture = "prediction" if self.name == "segmentation" else f"{self.name}_prediction/{view}"
        outputs = {picture: self._prediction(logits.detach())} if context.pictures else {}
        return TaskOutput(losses, outputs)

    def _prediction(self, logits: Tensor) -> Tensor:
        return pack_masks(logits > 0, axis=1) if self.overlapping else logits.argmax(1, keepdim=True)

    def _target(self, view: View, classes: int) -> Tensor:
        if self.overlapping:
            masks = [unpack_masks(view[name], classes, axis=1).float() for name in self.labels]
            return masks[0] if len(masks) == 1 else torch.stack(masks).mean(0)
        maps = [view[name].long() for name in self.labels]
        if len(maps) == 1:
            return maps[0]
        return torch.stack([one_hot(one[:, 0], classes).movedim(-1, 1).float() for one in maps]).mean(0)
