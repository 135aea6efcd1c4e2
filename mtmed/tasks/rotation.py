"""By how many quarters is the image turned?"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.randomness import random_generator
from mtmed.tasks.pooled_head import PooledHead
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["Rotation"]


class Rotation(Task):
    r"""Cross-entropy of the quarter turn of an image: 0, 90, 180 or 270 degrees, drawn for each sample.

    It needs no labels, so it is what a purely self-supervised set of tasks has in place of `DistanceMap`. The head is
    the mean over voxels of the coarsest feature map and two linear layers. An image that is not square in the plane of
    the turn is cut to the square in its middle, turned and resized to its old shape, whatever the turn, so that neither
    proportions nor blur tell the answer. Nothing tells a half turn from one that the augmentation made: do not mirror
    along both axes and do not turn by quarters there.

    Source: Gidaris, Singh, Komodakis 2018 (arXiv 1803.07728). Our reading: one turn per sample and step, where the
    paper shows all four of each image in a batch; in 3D the plane is axial.

    Args:
        source: the view whose image is turned.
        axes: the two axes of space that span the plane; the last two are the axial plane of volumes oriented SPL, the
            first two (0 and 1) that of volumes oriented RAS.
        hidden: width of the head's inner layer.

    Raises:
        InputError: if an option is out of range, for the network's number of axes where it matters.
    """

    def __init__(self, *, source: str = "auxiliary", axes: Sequence[int] = (-2, -1), hidden: int = 128) -> None:
        if hidden < 1:
            raise InputError("hidden", f"is {hidden}", "give the width of a layer, 1 or more")
        if len(axes) != 2:
            raise InputError("axes", f"are {list(axes)}", "give the two axes of a plane, for example -2 and -1")
        self.derived = f"{source}/rotation"
        super().__init__(views=(self.derived,), needs="encoded", levels=(-1,), sources=(source,))
        self.axes = tuple(axes)
        self.hidden = hidden

    def setup(self, network: Any) -> None:
        """Build the head."""
        dims = network.spatial_dims
        if any(not -dims <= axis < dims for axis in self.axes) or self.axes[0] % dims == self.axes[1] % dims:
            problem = f"are {list(self.axes)}, the images have {dims} axes"
            raise InputError("axes", problem, "give two different ones, for example -2 and -1")
        # of B C H W [D]
        self.plane = [2 + axis % dims for axis in self.axes]
        self.head = PooledHead(network.level_channels[-1], hidden=self.hidden, features=4)

    def derived_views(self, views: Mapping[str, View], context: StepContext) -> dict[str, View]:
        """The images turned, in their old shape."""
        (source,) = self.sources
        view = views[source]
        size = view["image"].shape[2:]
        square = self._square(view["image"])
        turned = torch.stack(
            [
                torch.rot90(one, quarters, [axis - 1 for axis in self.plane])
                for one, quarters in zip(square, self._draw(context), strict=True)
            ]
        )
        if turned.shape[2:] != size:
            turned = interpolate(turned, size=list(size), mode="bilinear" if len(size) == 2 else "trilinear")
        return {self.derived: {**view, "image": turned}}

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``rotation``; ``rotation/accuracy``, the share of turns told right in the joint batch.

        As a picture: ``rotation/<source>``, the image as it was shown.
        """
        logits = self.head(features[self.derived].encoded)
        drawn = torch.tensor(self._draw(context), device=logits.device)
        with torch.no_grad():
            hits = (logits.argmax(1) == drawn).sum()
            found, count = all_reduce_sum(torch.stack([hits, hits.new_tensor(len(drawn))]).double())
        outputs = {"rotation/accuracy": found / count}
        if context.pictures:
            outputs[self._picture] = views[self.derived]["image"]
        return TaskOutput({"rotation": cross_entropy(logits, drawn)}, outputs)

    @property
    def _picture(self) -> str:
        return f"rotation/{self.sources[0]}"

    def _draw(self, context: StepContext) -> list[int]:
        """Quarters by which each sample is turned, from the first axis of the plane to the second."""
        stream = f"rotation/{self.sources[0]}"
        return [
            int(random_generator(context.seed, context.step, position, stream).integers(4))
            for position in context.positions
        ]

    def _square(self, image: Tensor) -> Tensor:
        """Middle of the image with equal sides in the plane."""
        side = min(image.shape[axis] for axis in self.plane)
        for axis in self.plane:
            image = image.narrow(axis, (image.shape[axis] - side) // 2, side)
        return image
