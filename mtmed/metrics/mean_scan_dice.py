"""Validation Dice per organ and its mean, over whole scans and several processes, for masks that may overlap."""

import torch

from mtmed.metrics.overlapping_dice import OverlappingDice

__all__ = ["MeanScanDice"]


class MeanScanDice(OverlappingDice):
    r"""Mean over organs of the mean Dice over scans, for masks that may overlap; usable as MONAI's ``key_val_metric``.

    With scans v and organs c

    .. math:: \frac{1}{|C|} \sum_c \frac{1}{|V_c|} \sum_{v \in V_c} \frac{2 |P_{vc} \cap R_{vc}|}{|P_{vc}| + |R_{vc}|}.

    As the column ``dice`` of `mtmed.metrics.SliceReport`: a scan whose reference is empty scores 0 if the organ is
    predicted, and `empty` is the rule for two empty masks only. (`mtmed.metrics.MeanSliceDice` leaves all slices with
    an empty reference out under ``"nan"``: a scan has many of them.) ``engine.state.metrics`` gets the mean under the
    metric's name, and ``name/organ`` for each organ that has a value.

    Args:
        organs: their names, in the order of channels and bits.
        empty: Dice of two empty masks: ``"nan"`` (left out), ``"zero"`` or ``"one"``.
        output_transform: from the engine's output to (prediction, reference), each a tensor B C H W [D] or a list of
            C H W [D]. A prediction has a channel of logits per organ, which are inside above 0, or is one packed map
            (`mtmed.organ_masks`); references are packed maps.
        device: where sums are kept.

    Raises:
        InputError: if no organ is named, one is named twice, or there are more than eight.
        ValueError: if the rule is unknown.
    """

    def voxels(self, masks: torch.Tensor) -> torch.Tensor:
        """See `OverlappingDice.voxels`; the unit is the scan."""
        return masks.flatten(1).sum(1, keepdim=True)

    def is_left_out(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        """See `OverlappingDice.is_left_out`: two empty masks."""
        return ours + theirs == 0
