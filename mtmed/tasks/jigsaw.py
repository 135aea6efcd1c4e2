"""In which order are the pieces of the image? The jigsaw puzzle in 2D, the Rubik's cube in 3D."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mtmed.distributed import all_reduce_sum
from mtmed.errors import InputError
from mtmed.randomness import random_generator
from mtmed.tasks.image_cells import assemble_cells, cut_cells, pool_cells
from mtmed.tasks.permutation_table import permutation_table
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["Jigsaw"]


class Jigsaw(Task):
    r"""Cross-entropy of the order in which the cells of a grid are shown, one of a fixed set of permutations.

    The image is cut into cells of one size (2 x 2, in 3D 2 x 2 x 2), which are shown in an order drawn for each sample.
    Each cell's part of the coarsest feature map is averaged over its voxels to :math:`g_i`; one linear layer serves all
    cells, and a perceptron tells the permutation from what it makes of all of them:

    .. math:: \hat y = W_3\, \text{ReLU}(W_2\, \text{ReLU}(W_1 [V g_1, \ldots, V g_N])), \qquad
        L = -\frac{1}{B} \sum_b \log \text{softmax}(\hat y_b)_{y_b}

    Cells go through the network as images of their own, so that it cannot tell their order by the edges between them.
    Where it does not accept them, because it has one fixed image size or a cell has a side below twice its coarsest
    stride, they are put together to an image of the old size, and the coarsest map is averaged over each cell.

    Source: Noroozi, Favaro 2016 (arXiv 1603.09246); in 3D Zhuang et al. 2019 (arXiv 1910.02241). Widths of 64 and 1024
    and the 24 permutations are those of the later code by the first author of Hu, Qin 2024 (arXiv 2402.07119), whose
    paper's text was not at hand; its cells can also be mirrored and masked, ours are not. In 2D these 24 are all; in 3D
    they are far from each other, see `permutation_table`.

    Args:
        source: the view whose image is cut.
        grid: cells along each axis, one number for all or one each; at most 9 cells.
        permutations: how many orders there are to tell apart.
        features: what the linear layer makes of a cell.
        hidden: width of the two inner layers.

    Raises:
        InputError: if an option is out of range, for the network's number of axes where it matters; at a step, if a
            cell has less than 2 voxels along an axis, or the coarsest feature map fewer voxels than the grid has cells
            (at `setup` for a network of fixed size).
    """

    def __init__(
        self,
        *,
        source: str = "auxiliary",
        grid: int | Sequence[int] = 2,
        permutations: int = 24,
        features: int = 64,
        hidden: int = 1024,
    ) -> None:
        for name, value in (("features", features), ("hidden", hidden)):
            if value < 1:
                raise InputError(name, f"is {value}", "give the width of a layer, 1 or more")
        if min([grid] if isinstance(grid, int) else grid) < 1:
            raise InputError("grid", f"is {grid}", "give the number of cells along an axis, for example 2")
        self.derived = f"{source}/jigsaw"
        super().__init__(views=(self.derived,), needs="encoded", levels=(-1,), sources=(source,))
        self.grid = grid
        self.permutations = permutations
        self.features = features
        self.hidden = hidden

    def setup(self, network: Any) -> None:
        """Build the table of permutations and the head."""
        dims = network.spatial_dims
        self.cells = (self.grid,) * dims if isinstance(self.grid, int) else tuple(self.grid)
        if len(self.cells) != dims:
            raise InputError("grid", f"has {len(self.cells)} numbers", f"give {dims}, one per axis, or one number")
        if network.image_size:
            self._require_voxels([side // network.level_strides[-1] for side in network.image_size])
        self.orders = permutation_table(prod(self.cells), self.permutations)
        self.smallest = None if network.image_size else 2 * max(network.level_strides)
        self.projection = nn.Linear(network.level_channels[-1], self.features)
        self.classifier = nn.Sequential(
            nn.Linear(prod(self.cells) * self.features, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.permutations),
        )

    def derived_views(self, views: Mapping[str, View], context: StepContext) -> dict[str, View]:
        """The cells in the order drawn: each as an image of its own, B N C h w [d] as (B N) C h w [d], or assembled."""
        (source,) = self.sources
        view = views[source]
        size = view["image"].shape[2:]
        if min(side // count for side, count in zip(size, self.cells, strict=True)) < 2:
            problem = f"gives {_product(size)} voxels, the grid has {_product(self.cells)} cells"
            raise InputError("patch_size", problem, "give patches with 2 voxels or more per cell, or a smaller grid")
        shown = self._shown(view["image"], context)
        if not self._apart(size):
            return {self.derived: {**view, "image": assemble_cells(shown, self.cells, size)}}
        # what has axes of space does not fit a cell
        repeated = {name: part.repeat_interleave(shown.shape[1], 0) for name, part in view.items() if part.dim() <= 2}
        return {self.derived: {**repeated, "image": shown.flatten(0, 1)}}

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``jigsaw``; ``jigsaw/accuracy``, the share of orders told right in the joint batch over all processes.

        As a picture: ``jigsaw/<source>``, the image with its cells in the order drawn.
        """
        (source,) = self.sources
        image, coarsest = views[source]["image"], features[self.derived].encoded[-1]
        drawn = torch.tensor(self._draw(context), device=coarsest.device)
        with torch.autocast(coarsest.device.type, enabled=False):
            coarsest = coarsest.to(torch.promote_types(coarsest.dtype, torch.float32))
            cells = self.projection(self._pooled(coarsest, image))
            logits = self.classifier(cells.flatten(1))
            loss = cross_entropy(logits, drawn)
        with torch.no_grad():
            hits = (logits.argmax(1) == drawn).sum()
            found, count = all_reduce_sum(torch.stack([hits, hits.new_tensor(len(drawn))]).double())
        outputs = {"jigsaw/accuracy": found / count}
        if context.pictures:
            outputs[f"jigsaw/{source}"] = assemble_cells(self._shown(image, context), self.cells, image.shape[2:])
        return TaskOutput({"jigsaw": loss}, outputs)

    def _apart(self, size: Sequence[int]) -> bool:
        sides = [side // count for side, count in zip(size, self.cells, strict=True)]
        return self.smallest is not None and min(sides) >= self.smallest

    def _draw(self, context: StepContext) -> list[int]:
        """Row of the table for each sample."""
        (source,) = self.sources
        return [
            int(random_generator(context.seed, context.step, position, f"jigsaw/{source}").integers(len(self.orders)))
            for position in context.positions
        ]

    def _shown(self, image: Tensor, context: StepContext) -> Tensor:
        """Cells in the order drawn, B N C h w [d]."""
        cells = cut_cells(image, self.cells)
        orders = torch.from_numpy(self.orders[np.array(self._draw(context))]).to(image.device)
        return cells[torch.arange(len(cells), device=image.device)[:, None], orders]

    def _pooled(self, coarsest: Tensor, image: Tensor) -> Tensor:
        """Mean of each cell's features, B N C."""
        size = image.shape[2:]
        if self._apart(size):
            pooled = coarsest.flatten(2).mean(2)
            return pooled.reshape(len(image), -1, pooled.shape[1])
        self._require_voxels(coarsest.shape[2:])
        return pool_cells(coarsest, self.cells)

    def _require_voxels(self, coarsest: Sequence[int]) -> None:
        if any(side < count for side, count in zip(coarsest, self.cells, strict=True)):
            found, cells = _product(coarsest), _product(self.cells)
            problem = f"leaves {found} voxels on the coarsest feature map, the grid has {cells} cells"
            raise InputError("patch_size", problem, "give larger patches, a smaller grid or fewer levels")


def _product(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
