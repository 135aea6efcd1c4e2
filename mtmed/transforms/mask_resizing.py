"""Resizing of masks that overlap, with smooth edges."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Resize

from mtmed.organ_masks import pack_masks, unpack_masks

__all__ = ["ResizeMasksd"]


class ResizeMasksd(MapTransform):
    """MONAI's ``Resized`` for a packed map, mask by mask: linear, then inside where it is above 1/2, packed again.

    The nearest voxel, ``Resized`` with ``mode="nearest-exact"``, is quicker and keeps jagged edges.

    Args:
        keys: entries with packed maps (1, D, H, W), see `mtmed.organ_masks`.
        spatial_size: new size, voxels; -1 keeps an axis as it is.
        organs: number of masks that are packed.
        allow_missing_keys: pass over keys that the data do not have.
    """

    def __init__(
        self,
        keys: KeysCollection = "label",
        *,
        spatial_size: Sequence[int],
        organs: int,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.organs = organs
        mode = {2: "bilinear", 3: "trilinear"}[len(spatial_size)]
        self.resize = Resize(spatial_size=tuple(spatial_size), mode=mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the maps; they become uint8."""
        result = dict(data)
        for key in self.key_iterator(result):
            packed = result[key]
            plain = packed.as_tensor() if isinstance(packed, MetaTensor) else torch.as_tensor(packed)
            masks = MetaTensor(unpack_masks(plain, self.organs).to(torch.float32))
            if isinstance(packed, MetaTensor):
                masks = masks.copy_meta_from(packed)
            resized = self.resize(masks)
            labels = pack_masks(resized.as_tensor() > 0.5)
            result[key] = MetaTensor(labels).copy_meta_from(resized) if isinstance(packed, MetaTensor) else labels
        return result
