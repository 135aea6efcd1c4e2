"""Validation Dice per organ and its mean, over the slices of whole volumes and several processes."""

import torch

from mtmed.metrics.overlapping_dice import OverlappingDice

__all__ = ["MeanSliceDice"]


class MeanSliceDice(OverlappingDice):
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

    def voxels(self, masks: torch.Tensor) -> torch.Tensor:
        """See `OverlappingDice.voxels`; the unit is the slice."""
        return masks.sum((-2, -1)).reshape(len(masks), -1)

    def is_left_out(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        """See `OverlappingDice.is_left_out`: an empty reference, whatever is predicted."""
        return theirs == 0
