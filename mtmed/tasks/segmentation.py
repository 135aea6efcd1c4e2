"""Segmentation, the task that all others are there to help."""

from collections.abc import Callable, Mapping

from torch import Tensor

from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["Segmentation"]


class Segmentation(Task):
    """Loss between the network's logits and the label.

    Args:
        loss: takes logits, B classes H W [D], and labels, B 1 H W [D]; for example ``monai.losses.DiceCELoss``.
        view: the view it reads.
    """

    def __init__(self, *, loss: Callable[[Tensor, Tensor], Tensor], view: str = "patch") -> None:
        super().__init__(views=(view,), needs="logits")
        self.loss = loss

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``segmentation``; the prediction, B 1 H W [D], as a picture."""
        (view,) = self.views
        logits = features[view].logits
        assert logits is not None
        logits = logits.float()
        outputs = {"prediction": logits.detach().argmax(1, keepdim=True)} if context.pictures else {}
        return TaskOutput({"segmentation": self.loss(logits, views[view]["label"].long())}, outputs)
