"""Batches whose samples 2i and 2i + 1 belong together."""

import torch

from mtmed.errors import InputError
from mtmed.tasks.task import View

__all__ = ["require_pairs"]


def require_pairs(view: View) -> None:
    """Refuse a batch whose neighbouring samples are not of one scan and one group.

    Args:
        view: ``image``, and ``volume`` and ``group``, B each, where there are any.

    Raises:
        InputError: the number of samples is odd, or samples 2i and 2i + 1 differ.
    """
    size = len(view["image"])
    if size % 2:
        raise InputError("batch_size", f"is {size}, which leaves a slice without its partner", "give an even number")
    for name in ("volume", "group"):
        if name in view and not torch.equal(view[name][0::2], view[name][1::2]):
            problem = f"the samples of a pair are not of one {'scan' if name == 'volume' else 'group'}"
            raise InputError("draw", problem, "draw pairs of slices with mtmed.data.AdjacentSlices")
