"""Intensities of slices brought to one range."""

from collections.abc import Hashable, Mapping
from typing import Any, Literal, get_args

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mtmed.errors import InputError

__all__ = ["ScaleRange", "ScaleSlicesd"]

ScaleRange = Literal["slice", "scan"]
"""Of what the lowest and highest intensity become 0 and 1."""


class ScaleSlicesd(MapTransform):
    """Scale each channel linearly so that its lowest intensity becomes 0 and its highest 1: (x - min) / (max - min).

    Where all intensities are one, they become 0.

    Args:
        keys: entries with images (C, D, H, W), slices first.
        per: whether each ``"slice"`` has its own range, or the whole ``"scan"``.
        allow_missing_keys: pass over keys that the data do not have.

    Raises:
        InputError: `per` has another value.
    """

    def __init__(
        self, keys: KeysCollection = "image", *, per: ScaleRange = "slice", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if per not in get_args(ScaleRange):
            raise InputError("ScaleSlicesd.per", f"is {per!r}", f"choose one of {', '.join(get_args(ScaleRange))}")
        self.per = per

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the images to float32 from 0 to 1."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            plain = (image.as_tensor() if isinstance(image, MetaTensor) else image).to(torch.float32)
            plain = plain.contiguous()  # what is turned is slow to search
            axes = (2, 3) if self.per == "slice" else (1, 2, 3)
            low, high = plain.amin(axes, keepdim=True), plain.amax(axes, keepdim=True)
            scaled = (plain - low).div_(torch.where(high > low, high - low, 1))
            result[key] = MetaTensor(scaled).copy_meta_from(image) if isinstance(image, MetaTensor) else scaled
        return result
