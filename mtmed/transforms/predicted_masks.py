"""From probabilities of organs that may overlap to one label map."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mtmed.organ_masks import pack_masks
from mtmed.transforms.slice_axis import slice_axis

__all__ = ["HIGHEST_PROBABILITY", "PredictedMasksd"]

HIGHEST_PROBABILITY = "highest_probability"
"""Where the meta data of a packed map keep the highest probabilities."""


class PredictedMasksd(MapTransform):
    """Voxels of each organ whose probability is above a threshold, packed to bits (see `mtmed.organ_masks`).

    For a bundle's ``postprocessing``, behind MONAI's ``Activationsd`` (``sigmoid: true``) and ``Invertd``
    (``nearest_interp: false``), which brings the probabilities to the grid of the image's file: they are interpolated,
    not the masks, so that outlines lie between the voxels of the network's coarser grid. Works on one case.

    Of a volume the meta data keep, under ``highest_probability``, the highest probability of each organ in each slice
    across the axis from feet to head: a list of organs with a list of slices each. By it
    `mtmed.metrics.image_auc` ranks slices.

    Args:
        keys: entries with probabilities (K, H, W[, D]) in [0, 1], one channel per organ.
        threshold: probability above which a voxel belongs to an organ, in [0, 1).
        allow_missing_keys: pass over keys that the data do not have.

    Returns:
        uint8 (1, H, W[, D]), bit k set where organ k is; a `MetaTensor` with the entry's affine and meta data.

    Raises:
        ValueError: the threshold is out of range, or an entry has more than eight channels.
    """

    def __init__(self, keys: KeysCollection, *, threshold: float = 0.5, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold is {threshold}; give a probability in [0, 1).")
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the probabilities of each entry by the packed label map."""
        result = dict(data)
        for key in self.key_iterator(result):
            probabilities: torch.Tensor = result[key]
            plain = probabilities.as_tensor() if isinstance(probabilities, MetaTensor) else probabilities
            packed = pack_masks(plain > self.threshold)
            if isinstance(probabilities, MetaTensor):
                packed = MetaTensor(packed).copy_meta_from(probabilities)
                if plain.ndim == 4:
                    packed.meta[HIGHEST_PROBABILITY] = _highest_in_slices(plain, probabilities.affine)
            result[key] = packed
        return result


def _highest_in_slices(probabilities: torch.Tensor, affine: torch.Tensor) -> list[list[float]]:
    within = [axis for axis in (1, 2, 3) if axis != 1 + slice_axis(affine.cpu().numpy())]
    highest: list[list[float]] = probabilities.amax(within).tolist()
    return highest
