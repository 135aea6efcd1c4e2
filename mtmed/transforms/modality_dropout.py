"""Training for scans that lack a modality."""

import torch

from mtmed.transforms.intensity import DrawnChange, IntensityOperation

__all__ = ["ModalityDropout"]


class ModalityDropout(IntensityOperation):
    """Set one modality of a sample to 0, as a missing one is; each modality alike, never the only one.

    Images are expected to have mean 0 (z-score), so that 0 carries no information.

    Args:
        probability: chance that a sample loses a modality.
    """

    def __init__(self, *, probability: float) -> None:
        super().__init__(probability=probability, drawn_range=(0.0, 1.0))

    def change(self, sample: torch.Tensor, change: DrawnChange) -> None:
        """Clear a channel among those that are not empty already, unless it is the last one."""
        filled = [channel for channel in range(len(sample)) if bool(sample[channel].any())]
        if len(filled) > 1:
            sample[filled[min(int(change.value * len(filled)), len(filled) - 1)]] = 0
