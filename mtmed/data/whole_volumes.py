"""Stored volumes as a whole, for validation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from mtmed.data.slice_features import volume_features
from mtmed.data.volume_store import Volumes
from mtmed.transforms.slice_features import append_planes

__all__ = ["WholeVolumes"]


class WholeVolumes(Dataset[dict[str, Any]]):
    """Each stored volume as one sample: ``image``, C H W D, ``label``, 1 H W D, and the index ``volume``.

    Args:
        volumes: from `VolumeStore.build`.
        features: features of slices that become the last channels of the image, see
            `mtmed.transforms.AppendSliceFeaturesd`; slices then lie along the first axis.
    """

    def __init__(self, volumes: Volumes, *, features: Sequence[str] = ()) -> None:
        self.volumes = volumes
        self.features = tuple(features)

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        volume = self.volumes[index]
        arrays = volume.crop((0,) * len(volume.shape), volume.shape)
        sample = {key: torch.from_numpy(array) for key, array in arrays.items() if key in ("image", "label")}
        sample["image"] = append_planes(sample["image"], volume_features(volume, self.features))
        return {**sample, "volume": index}
