"""Mean Dice of organs whose masks may overlap, whatever it is a mean over: slices or scans."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import from_engine
from monai.utils import convert_to_tensor

from mtmed.metrics.organ_means import OrganMeans
from mtmed.metrics.scores import EmptyPolicy
from mtmed.organ_masks import organ_values, unpack_masks

__all__ = ["OverlappingDice"]


class OverlappingDice(OrganMeans):
    """Sums the Dice of each organ over units, which a subclass says: their voxels, and which of them count.

    Args:
        organs: their names, in the order of channels and bits.
        empty: rule for empty masks; what it means says the subclass.
        output_transform: from the engine's output to (prediction, reference), each a tensor B C [D] H W or a list of
            C [D] H W. A prediction has a channel of logits per organ, which are inside above 0, or is one packed map
            (`mtmed.organ_masks`); references are packed maps.
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

    def voxels(self, masks: torch.Tensor) -> torch.Tensor:
        """Number of voxels in each unit, K units, of masks K [D] H W."""
        raise NotImplementedError

    def is_left_out(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        """Which units do not count under ``empty="nan"``, by the voxels of prediction and reference, K units."""
        raise NotImplementedError

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def update(self, output: Sequence[Any]) -> None:
        """Add the volumes of one batch.

        Raises:
            ValueError: if a prediction has neither one channel nor one per organ, or another shape than its reference.
        """
        for ours, theirs in _mask_pairs(output, len(self.names)):
            both, in_ours, in_theirs = (self.voxels(mask).double() for mask in (ours & theirs, ours, theirs))
            size = in_ours + in_theirs
            dice = torch.where(size > 0, 2 * both / size.clamp(min=1), float(self.empty == "one"))
            counted = torch.ones_like(size, dtype=torch.bool)
            if self.empty == "nan":
                counted = ~self.is_left_out(in_ours, in_theirs)
            self._sums += (dice * counted).sum(1).to(self._sums)
            self._counts += counted.sum(1).to(self._counts)


def _mask_pairs(output: Sequence[Any], organs: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Masks of prediction and reference of each volume of a batch, each K [D] H W with an organ per channel.

    Args:
        output: prediction and reference, each a tensor B C [D] H W or a list of C [D] H W. A prediction has a channel
            of logits per organ, which are inside above 0, or is one packed map (`mtmed.organ_masks`); references are
            packed maps.
        organs: how many there are.

    Raises:
        ValueError: if a prediction has neither one channel nor one per organ, or another shape than its reference.
    """
    predictions, references = output
    for prediction, reference in zip(predictions, references, strict=True):
        ours = _predicted(convert_to_tensor(prediction, track_meta=False), organs)
        theirs = unpack_masks(convert_to_tensor(reference, track_meta=False), organs).bool()
        if ours.shape != theirs.shape:
            found = f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
            raise ValueError(f"Masks of prediction and reference have the shapes {found}; bring them to one grid.")
        yield ours, theirs


def _predicted(prediction: torch.Tensor, organs: int) -> torch.Tensor:
    if len(prediction) == organs:
        return prediction > 0  # of a single organ, logits and packed map alike
    if len(prediction) != 1:
        found = f"{len(prediction)} channels for {organs} organs"
        raise ValueError(f"A prediction has {found}; give logits with one each, or one packed map.")
    return unpack_masks(prediction, organs).bool()
