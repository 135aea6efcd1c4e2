"""Validation Dice per organ and its mean, over the slices of whole volumes and several processes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import from_engine

from mtmed.metrics.mask_pairs import mask_pairs
from mtmed.metrics.organ_means import OrganMeans
from mtmed.metrics.scores import EmptyPolicy
from mtmed.organ_masks import organ_values

__all__ = ["MeanSliceDice"]


class MeanSliceDice(OrganMeans):
    r"""Mean over organs of the mean Dice over slices, for masks that may overlap; usable as MONAI's ``key_val_metric``.

    With slices s of all volumes and organs c

    .. math:: \frac{1}{|C|} \sum_c \frac{1}{|S_c|} \sum_{s \in S_c} \frac{2 |P_{sc} \cap R_{sc}|}{|P_{sc}| + |R_{sc}|}.

    Which slices :math:`S_c` are counted says `empty`, as in `mtmed.metrics.slice_dice`. ``engine.state.metrics`` gets
    the mean under the metric's name, and ``name/organ`` for each organ that has a value.

    Args:
        organs: their names, in the order of channels and bits.
        empty: what a slice counts whose reference is empty: ``"nan"`` leaves it out, whatever is predicted; ``"zero"``
            counts it 0; ``"one"`` counts it 1 if nothing is predicted, else 0.
        output_transform: from the engine's output to (prediction, reference), each a tensor B C [D] H W or a list of
            C [D] H W, slices first. A prediction has a channel of logits per organ, which are inside above 0, or is one
            packed map (`mtmed.organ_masks`); references are packed maps.
        device: where sums are kept.

    Raises:
        InputError: if no organ is named, one is named twice, or there are more than eight.
        ValueError: if the rule is unknown.
    """

    def __init__(
        self,
        organs: Sequence[str],
        *,
        empty: EmptyPolicy = "nan",
        output_transform: Callable[..., Any] = from_engine(["pred", "label"]),  # noqa: B008
        device: torch.device | str = "cpu",
    ) -> None:
        names = list(organ_values(organs))
        super().__init__(names, empty=empty, output_transform=output_transform, device=device)

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def update(self, output: Sequence[Any]) -> None:
        """Add the volumes of one batch.

        Raises:
            ValueError: if a prediction has neither one channel nor one per organ, or another shape than its reference.
        """
        for ours, theirs in mask_pairs(output, len(self.names)):
            both, in_ours, in_theirs = (mask.sum((-2, -1)).double() for mask in (ours & theirs, ours, theirs))
            size = in_ours + in_theirs
            dice = torch.where(size > 0, 2 * both / size.clamp(min=1), float(self.empty == "one"))
            counted = in_theirs > 0 if self.empty == "nan" else torch.ones_like(in_theirs, dtype=torch.bool)
            self._sums += (dice * counted).reshape(len(self.names), -1).sum(1).to(self._sums)
            self._counts += counted.reshape(len(self.names), -1).sum(1).to(self._counts)
