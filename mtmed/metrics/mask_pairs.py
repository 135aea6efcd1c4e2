"""Predicted and reference masks of organs that may overlap, as validation metrics take them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from monai.utils import convert_to_tensor

from mtmed.organ_masks import unpack_masks

__all__ = ["mask_pairs"]


def mask_pairs(output: Sequence[Any], organs: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
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
