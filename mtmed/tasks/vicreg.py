"""VICReg: two looks at one place have one embedding, without negatives."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtmed.distributed import world_size
from mtmed.errors import InputError
from mtmed.losses import VICRegLoss
from mtmed.networks.moment_norm import MomentNorm
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["VICReg"]


class VICReg(Task):
    """Variance, invariance and covariance of the embeddings of two views, see `VICRegLoss`.

    The mean of the coarsest feature map over its voxels goes through three linear layers, with batch normalisation over
    the joint batch of all processes and ReLU in between.

    Source: Bardes, Ponce, LeCun 2022 (arXiv 2105.04906), with a projector of 1024-1024-1024 and weights of sum 1 as in
    the later code by the first author of Hu, Qin 2024 (arXiv 2402.07119); the paper's own projector has 8192.

    Args:
        views: names of the two views, whose samples show the same place one by one.
        features: length of the embedding.
        hidden: width of the projector's inner layers.
        weights: of invariance, variance and covariance.
        normalised: divide the weights by their sum.

    Raises:
        InputError: if an option is out of range; at a step, if there is one sample in all.
    """

    def __init__(
        self,
        *,
        views: Sequence[str] = ("auxiliary", "partner"),
        features: int = 1024,
        hidden: int = 1024,
        weights: Sequence[float] = (25.0, 25.0, 1.0),
        normalised: bool = True,
    ) -> None:
        if len(views) != 2:
            raise InputError("VICReg.views", f"has {len(views)} names", "name the two views of a pair")
        for name, value in (("features", features), ("hidden", hidden)):
            if value < 1:
                raise InputError(name, f"is {value}", "give the width of a layer, 1 or more")
        super().__init__(views=tuple(views), needs="encoded", levels=(-1,))
        self.features = features
        self.hidden = hidden
        self.loss = VICRegLoss(weights=weights, normalised=normalised)

    def setup(self, network: Any) -> None:
        """Build the projector."""
        # no bias before a norm, nor at the end, which would be taken out of each term again
        self.projector = nn.Sequential(
            nn.Linear(network.level_channels[-1], self.hidden, bias=False),
            MomentNorm(self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.hidden, bias=False),
            MomentNorm(self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.features, bias=False),
        )

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Loss ``vicreg``; its terms before they are weighted, ``vicreg/invariance`` and so on."""
        a, b = (self._embed(features[name].encoded) for name in self.views)
        terms = self.loss.terms(a, b)
        outputs = {f"vicreg/{name}": term.detach() for name, term in terms._asdict().items()}
        return TaskOutput({"vicreg": self.loss.weighted(terms)}, outputs)

    def _embed(self, encoded: Sequence[Tensor]) -> Tensor:
        coarsest = encoded[-1]
        if len(coarsest) * world_size() < 2:
            raise InputError("batch_size", "is 1, which has no variance", "give 2 or more")
        with torch.autocast(coarsest.device.type, enabled=False):
            voxels = coarsest.to(torch.promote_types(coarsest.dtype, torch.float32)).flatten(2)
            return self.projector(voxels.mean(2))  # type: ignore[no-any-return]
