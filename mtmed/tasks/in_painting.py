"""In-painting: give back a block that was cut out of the image."""

from collections.abc import Mapping
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor

from mtmed.errors import InputError
from mtmed.randomness import random_generator
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["InPainting"]


class InPainting(Task):
    r"""Squared error inside a block that the network does not see.

    From each image x one block is cut out, at a random place, with a fixed share of the image's sides. With
    :math:`\Omega` its voxels, :math:`\tilde x` the clean image and f the reconstruction,

    .. math:: L = \frac{1}{B C |\Omega|} \sum_{b, c} \sum_{v \in \Omega_b} (f(x \setminus \Omega)(v) - \tilde x(v))^2.

    The view ``source/in_painting`` shows the image with the block, which goes through all channels. In it, each channel
    has its mean over the image: a value that tells next to nothing of what was there, looks neither like air nor like
    bone, and leaves the mean that instance normalisation takes about where it was. Encoder and decoder are the
    network's, skips included; a 1x1 convolution is the task's own.

    Source: the task ``mae`` of the code that the first author of Hu, Qin 2024 (arXiv 2402.07119) published later: one
    block of a quarter of the side, the error inside it only. Our readings: the value of the block, and a clean image
    without the changes of intensity as target.

    Args:
        source: the view that is cut.
        side: side of the block as a share of the image's, above 0 and below 1; each side is rounded to voxels, one at
            least.

    Raises:
        InputError: if `side` is out of range; at a step, if the block fills the image.
    """

    def __init__(self, *, source: str = "auxiliary", side: float = 0.25) -> None:
        if not 0 < side < 1:
            raise InputError("side", f"is {side}", "give the block's share of the image's side, for example 0.25")
        super().__init__(views=(f"{source}/in_painting",), needs="decoded", sources=(source,))
        self.side = side

    def setup(self, network: Any) -> None:
        """Build the 1x1 convolution from decoded features to the image."""
        self.head = Conv[Conv.CONV, network.spatial_dims](network.decoder_channels, network.in_channels, kernel_size=1)

    @torch.no_grad()
    def derived_views(self, views: Mapping[str, View], context: StepContext) -> dict[str, View]:
        """The view ``source/in_painting``, with ``hole``, B 1 H W [D], true in the block."""
        (source,), (name,) = self.sources, self.views
        image = views[source]["image"]
        hole = self._holes(image, context)
        mean = image.mean(tuple(range(2, image.dim())), keepdim=True)
        return {name: {**views[source], "image": torch.where(hole, mean, image), "hole": hole}}

    def _holes(self, image: Tensor, context: StepContext) -> Tensor:
        sides = image.shape[2:]
        block = [max(1, round(self.side * side)) for side in sides]
        rooms = [side - own + 1 for side, own in zip(sides, block, strict=True)]
        if max(rooms) == 1:
            problem = f"the block fills the image of {' x '.join(map(str, sides))}"
            raise InputError("in_painting", problem, "use larger images or a smaller side")
        hole = torch.zeros(len(image), 1, *sides, dtype=torch.bool)
        for sample, position in enumerate(context.positions):
            corner = random_generator(context.seed, context.step, position, self.views[0]).integers(0, rooms)
            inside = tuple(slice(first, first + own) for first, own in zip(corner.tolist(), block, strict=True))
            hole[sample, 0][inside] = True
        return hole.to(image.device)

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``in_painting``; the clean image with the block as it was painted, as a picture."""
        (source,), (name,) = self.sources, self.views
        decoded = features[name].decoded
        assert decoded is not None
        painted, clean, hole = self.head(decoded).float(), views[name]["clean"], views[name]["hole"]
        squared = (painted - clean).square() * hole
        loss = squared.sum() / (hole.sum() * clean.shape[1])
        outputs = {f"in_painting/{source}": torch.where(hole, painted.detach(), clean)} if context.pictures else {}
        return TaskOutput({"in_painting": loss}, outputs)
