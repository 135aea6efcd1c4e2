"""A network that embeds organs instead of segmenting them, for evaluators."""

from typing import Any

from torch import Tensor, nn

from mtmed.tasks.same_side import SameSide

__all__ = ["SideEmbedding"]


class SideEmbedding(nn.Module):
    """From images to the embeddings that `SameSide` compares.

    Args:
        network: encoder-decoder with ``encode``.
        task: the task that trains it; it must be set up before the first call.
    """

    def __init__(self, network: nn.Module, task: SameSide) -> None:
        super().__init__()
        self.network = network
        self.task = task

    def forward(self, image: Tensor) -> Tensor:
        """Embeddings, B F, of images, B C H W [D]."""
        network: Any = self.network
        return self.task.embed(network.encode(image))
