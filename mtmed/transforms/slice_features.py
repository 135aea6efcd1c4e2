"""Numbers beside a slice that a network may be told: where it lies in its scan, how large it and its pixels are."""

import math
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = [
    "FEATURES",
    "AppendSliceFeaturesd",
    "ImageFactsd",
    "append_planes",
    "feature_table",
    "is_finite_number",
    "slice_position",
    "slice_positions",
]

FEATURES: Mapping[str, str] = MappingProxyType(
    {
        "slice_position": "number of the slice by that of the last one, 0 to 1; 0 in a scan of one slice",
        "pixel_height": "distance of neighbouring rows in the file, mm",
        "pixel_width": "distance of neighbouring columns in the file, mm",
        "image_height": "number of rows in the file",
        "image_width": "number of columns in the file",
    }
)
"""Features that follow from an image; all others are numbers of a case's metadata."""


def slice_position(number: int, slices: int) -> float:
    """Position of a slice in its scan: its number, from 0, by that of the last one; 0 in a scan of one slice."""
    return number / max(slices - 1, 1)


def slice_positions(slices: int) -> list[float]:
    """Position of each slice of a scan, see `slice_position`."""
    return [slice_position(number, slices) for number in range(slices)]


def is_finite_number(value: object) -> bool:
    """Whether what a data list says of a case can be a feature."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def feature_table(
    features: Sequence[str], *, positions: Sequence[float], facts: Mapping[str, float], metadata: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Values of features for slices of a scan, as they are, not standardised.

    Args:
        features: names: of `FEATURES`, or of numbers in `metadata`.
        positions: position of each slice, see `slice_positions`.
        facts: what `ImageFactsd` found.
        metadata: what the data list says of the case; it is asked for what is not among the facts.

    Returns:
        (slices, features); NaN where a feature is not known, or is not a finite number.
    """
    table = np.full((len(positions), len(features)), np.nan, np.float32)
    for column, name in enumerate(features):
        value = positions if name == "slice_position" else facts.get(name, metadata.get(name))
        if name == "slice_position" or is_finite_number(value):
            table[:, column] = value
    return table


class ImageFactsd(MapTransform):
    """Note the size of an image and of its pixels under ``facts``, before resizing makes all alike.

    Adds ``pixel_height`` and ``pixel_width`` (mm), ``image_height`` and ``image_width`` (voxels); see `FEATURES`. Rows
    are counted along the second last axis, columns along the last one: slices come first, as after Orientationd with
    axcodes "SPL".

    Args:
        keys: the entry with the image, `MetaTensor` (C, D, H, W).

    Raises:
        InputError: there is more than one key; the image has no affine, or other axes.
    """

    def __init__(self, keys: KeysCollection = "image") -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise InputError("ImageFactsd.keys", f"are {', '.join(map(str, self.keys))}", "name one image")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the facts."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            if not isinstance(image, MetaTensor) or image.ndim != 4:
                problem = f"is a {type(image).__name__} {list(image.shape)}, expected are C D H W and an affine"
                raise InputError(str(key), problem, "put LoadVolumed and Orientationd before it")
            height, width = (float(length) for length in np.linalg.norm(np.asarray(image.affine)[:3, 1:3], axis=0))
            facts = {"pixel_height": height, "pixel_width": width}
            facts |= {"image_height": float(image.shape[2]), "image_width": float(image.shape[3])}
            result["facts"] = {**result.get("facts", {}), **facts}
        return result


class AppendSliceFeaturesd(MapTransform):
    """Append features as channels of constant planes, as a network with FiLM reads them in inference.

    Values are not standardised, the network does that; NaN stands for what is not known. Facts are taken from the
    entry ``facts`` (`ImageFactsd`), all else from the entry ``metadata``.

    Args:
        keys: entries with images (C, D, H, W), slices first.
        features: names, see `FEATURES`; none leaves the image as it is.
    """

    def __init__(self, keys: KeysCollection = "image", *, features: Sequence[str]) -> None:
        super().__init__(keys)
        self.features = tuple(features)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Append the planes."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            facts, metadata = result.get("facts", {}), result.get("metadata", {})
            positions = slice_positions(image.shape[1])
            table = feature_table(self.features, positions=positions, facts=facts, metadata=metadata)
            result[key] = append_planes(image, table)
        return result


def append_planes(image: torch.Tensor, table: NDArray[np.float32]) -> torch.Tensor:
    """Append each column of a table as a channel, its value of a slice in all voxels of the slice.

    Args:
        image: (C, D, H, W).
        table: (D, features), see `feature_table`.

    Returns:
        float32 (C + features, D, H, W), with the meta data of the image.
    """
    if not table.shape[1]:
        return image
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    planes = torch.from_numpy(table).T[:, :, None, None].expand(-1, -1, *plain.shape[2:])
    joined = torch.cat([plain.to(torch.float32), planes.to(plain.device)])
    return MetaTensor(joined).copy_meta_from(image) if isinstance(image, MetaTensor) else joined
