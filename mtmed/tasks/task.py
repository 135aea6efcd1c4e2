"""What a learning signal is: views in, named losses out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["StepContext", "Task", "TaskOutput", "View", "ViewFeatures", "encode_view"]

View = Mapping[str, Tensor]
"""One augmented batch: ``image``, ``clean`` (before intensity changes) and what its source has (``label``, ...)."""


def encode_view(network: Any, view: View) -> list[Tensor]:
    """Feature maps of a view, fine to coarse; a network with ``condition_features`` is told the view's condition."""
    told = (view["condition"],) if getattr(network, "condition_features", ()) else ()
    features: list[Tensor] = network.encode(view["image"], *told)
    return features


@dataclass(frozen=True)
class StepContext:
    """Where in a run a step is, for tasks that draw random numbers or make pictures.

    Attributes:
        seed: seed of the run.
        step: optimiser step, counted from 0.
        positions: position of each local sample in the global batch.
        pictures: whether tasks should add outputs that are only looked at.
    """

    seed: int
    step: int
    positions: tuple[int, ...]
    pictures: bool = False


@dataclass(frozen=True)
class ViewFeatures:
    """What the network makes of one view.

    Attributes:
        encoded: feature maps, B C_l H/s_l W/s_l [D/s_l], fine to coarse.
        decoded: full-resolution feature map, B C H W [D], if a task of this view wants it.
        logits: B classes H W [D], if a task of this view wants them.
    """

    encoded: list[Tensor]
    decoded: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class TaskOutput:
    """Named losses, which are weighted and summed, and named outputs, which are shown.

    Attributes:
        losses: scalars with a gradient.
        outputs: tensors without; a scalar is logged, B C H W [D] is shown as an image, H W as a matrix.
    """

    losses: dict[str, Tensor]
    outputs: dict[str, Tensor] = field(default_factory=dict)


class Task(nn.Module):
    """A learning signal: names the views it reads, owns its head and its loss.

    A subclass sets ``views`` and ``needs`` and implements ``forward``. It trains jointly with segmentation or first, on
    any network that accepts its views; nothing in it knows which. A task that shows the network something else than
    what is in the batch, such as an image with a hole, makes it in ``derived_views``.

    Args:
        views: names of the views whose features it reads, those among them that it makes itself included.
        needs: how far the network goes for them: its feature maps, its decoded map, or the logits of its own head.
        levels: which of the feature maps it reads, if it needs no more than these; None for all.
        sources: names of the views that it needs in the batch; None if these are `views`.
    """

    def __init__(
        self,
        *,
        views: tuple[str, ...],
        needs: Literal["encoded", "decoded", "logits"],
        levels: tuple[int, ...] | None = None,
        sources: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.views = views
        self.sources = views if sources is None else sources
        self.needs = needs
        self.levels = levels

    def setup(self, network: Any) -> None:
        """Build what depends on the network, before the optimiser and the distributed wrapper exist."""

    def derived_views(self, views: Mapping[str, View], context: StepContext) -> dict[str, View]:
        """Views that the task makes from its sources, before anything is encoded; none by default.

        They are named ``source/task``. What is random in them is a function of the context.

        Args:
            views: the views of the batch.
            context: where in the run this is.
        """
        return {}

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Losses and outputs of one step.

        Args:
            features: what the network makes of each view.
            views: the views themselves, and those derived from them.
            context: where in the run this is.
        """
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Called after each optimiser step, for momentum copies and queues."""
