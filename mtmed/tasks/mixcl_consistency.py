"""MixCL's identity and label consistency, which share their projectors."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtmed.distributed import world_size
from mtmed.errors import InputError
from mtmed.losses import (
    CrossCorrelationLoss,
    LabelContrastLoss,
    PixelSample,
    boundary_weight,
    cross_correlation,
    label_relation,
    nearest_downsample,
    sample_pixels,
    take_pixels,
)
from mtmed.networks.projector import Projector
from mtmed.randomness import torch_generator
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = ["MixCLConsistency"]

_LARGEST_PICTURED_MATRIX = 128


class MixCLConsistency(Task):
    r"""Pixel-level identity consistency of two views and label consistency between two patches.

    1. Each level l of the encoder gets a projector :math:`\sigma^l` (1x1 convolutions of c, c, 2c channels).
    2. Identity: on every level, the cross-correlation over all voxels of the two views' projections should be the unit
       matrix; the losses of the levels are summed (Eq. 4 and 5, see `CrossCorrelationLoss`).
    3. Label: on one level, voxels of the first view and of the auxiliary patch are drawn, up to ``pixels_per_class`` of
       each class, with probability proportional to :math:`W(D)` (Eq. 7, see `boundary_weight`); equal labels attract,
       different ones repel (Eq. 6, see `LabelContrastLoss`). Both patches come from one data set, so labels of
       different data sets are never compared.

    Source: Li, Quan, Zhou 2022, "MixCL", Sections 2.1 to 2.3. Our readings: the levels are the five maps that feed
    UNETR's decoder, and "the 2-nd layer" is level 1 counted from 0, at half resolution.

    Args:
        identity: loss of the two views, None to leave it out.
        label: loss of first view and auxiliary patch, None to leave it out.
        views: names of the two views of the first patch.
        auxiliary: name of the view of the auxiliary patch.
        label_level: level of the label loss.
        pixels_per_class: the budget r; voxels drawn per class and patch.
        mu: scale of the weight map in voxels of the resampled image.
        epsilon: floor of the weight map.
        pairs: ``"dataset"`` compares voxels of all patches of a data set in the joint batch over all processes,
            ``"sample"`` only those of one patch and its own auxiliary patch.

    Raises:
        InputError: if both losses are left out.
    """

    def __init__(
        self,
        *,
        identity: CrossCorrelationLoss | None = None,
        label: LabelContrastLoss | None = None,
        views: Sequence[str] = ("view_a", "view_b"),
        auxiliary: str = "auxiliary",
        label_level: int = 1,
        pixels_per_class: int = 256,
        mu: float = 8.0,
        epsilon: float = 0.05,
        pairs: Literal["dataset", "sample"] = "dataset",
    ) -> None:
        if identity is None and label is None:
            raise InputError("MixCLConsistency", "both losses are left out", "give identity, label or both")
        if len(views) != 2:
            raise InputError(
                "MixCLConsistency.views", f"has {len(views)} names", "name the two views of the first patch"
            )
        if pairs not in ("dataset", "sample"):
            raise InputError("MixCLConsistency.pairs", f"is {pairs!r}", 'choose "dataset" or "sample"')
        if pixels_per_class < 1:
            raise InputError("MixCLConsistency.pixels_per_class", f"is {pixels_per_class}", "give 1 or more")
        read = ((*views,) if identity is not None else (views[0],)) + ((auxiliary,) if label is not None else ())
        super().__init__(views=read, needs="encoded", levels=None if identity is not None else (label_level,))
        self.identity = identity
        self.label = label
        self.pair = tuple(views)
        self.auxiliary = auxiliary
        self.label_level = label_level
        self.pixels_per_class = pixels_per_class
        self.mu = mu
        self.epsilon = epsilon
        self.pairs = pairs

    def setup(self, network: Any) -> None:
        """Build a projector for each level that a loss uses."""
        channels, spatial_dims = network.level_channels, len(network.image_size)
        if not 0 <= self.label_level < len(channels):
            raise InputError(
                "label_level", f"is {self.label_level}", f"the network has levels 0 to {len(channels) - 1}"
            )
        levels = range(len(channels)) if self.identity is not None else (self.label_level,)
        self.projectors = nn.ModuleDict(
            {str(level): Projector(channels[level], spatial_dims=spatial_dims) for level in levels}
        )

    def _project(self, features: ViewFeatures, level: int) -> Tensor:
        feature_map = features.encoded[level]
        if self.training and feature_map.shape[0] * feature_map[0, 0].numel() * world_size() == 1:
            raise InputError(
                "patch_size", f"leaves one voxel on level {level}, too few to normalise", "give a larger patch or batch"
            )
        return self.projectors[str(level)](feature_map)  # type: ignore[no-any-return]

    def forward(
        self, features: Mapping[str, ViewFeatures], views: Mapping[str, View], context: StepContext
    ) -> TaskOutput:
        """Losses ``identity`` and ``label``, each if it is in use.

        As pictures: the correlation matrix of the label level, the relation matrix, the weight map of both patches.
        """
        first, second = self.pair
        losses: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        projected: Tensor | None = None
        if self.identity is not None:
            by_level = []
            for key in self.projectors:
                a, b = self._project(features[first], int(key)), self._project(features[second], int(key))
                by_level.append(self.identity(a, b))
                outputs[f"identity/level_{key}"] = by_level[-1].detach()
                if int(key) == self.label_level:
                    projected = a
                    if context.pictures:
                        matrix = cross_correlation(a.detach(), b.detach())
                        outputs["correlation"] = matrix[:_LARGEST_PICTURED_MATRIX, :_LARGEST_PICTURED_MATRIX]
            losses["identity"] = torch.stack(by_level).sum()
        if self.label is not None:
            anchor_map = projected if projected is not None else self._project(features[first], self.label_level)
            partner_map = self._project(features[self.auxiliary], self.label_level)
            anchors = self._draw(first, anchor_map, views[first], context)
            partners = self._draw(self.auxiliary, partner_map, views[self.auxiliary], context)
            anchor_groups = self._groups(views[first], anchors, context)
            partner_groups = self._groups(views[self.auxiliary], partners, context)
            losses["label"] = self.label(
                take_pixels(anchor_map, anchors),
                anchors.label,
                anchor_groups,
                take_pixels(partner_map, partners),
                partners.label,
                partner_groups,
            )
            if context.pictures:
                outputs["relation"] = label_relation(
                    anchors.label, anchor_groups, partners.label, partner_groups, background=self.label.background
                ).float()
                for name in (first, self.auxiliary):
                    outputs[f"sampling_weight/{name}"] = boundary_weight(
                        views[name]["distance"], mu=self.mu, epsilon=self.epsilon
                    )
        return TaskOutput(losses, outputs)

    def _draw(self, name: str, feature_map: Tensor, view: View, context: StepContext) -> PixelSample:
        size = feature_map.shape[2:]
        label = nearest_downsample(view["label"], size)
        weight = boundary_weight(nearest_downsample(view["distance"], size), mu=self.mu, epsilon=self.epsilon)
        generators = [
            torch_generator(context.seed, context.step, position, f"pixels/{name}", label.device)
            for position in context.positions
        ]
        return sample_pixels(weight, label, per_class=self.pixels_per_class, generators=generators)

    def _groups(self, view: View, sample: PixelSample, context: StepContext) -> Tensor:
        if self.pairs == "dataset":
            return view["dataset"][sample.batch]
        return torch.tensor(context.positions, device=sample.batch.device)[sample.batch]
