"""Stored volumes as a whole, for validation."""

from typing import Any

import torch
from torch.utils.data import Dataset

from mtmed.data.volume_store import Volumes

__all__ = ["WholeVolumes"]


class WholeVolumes(Dataset[dict[str, Any]]):
    """Each stored volume as one sample: ``image``, C H W D, ``label``, 1 H W D, and the index ``volume``.

    Args:
        volumes: from `VolumeStore.build`.
    """

    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        volume = self.volumes[index]
        arrays = volume.crop((0, 0, 0), volume.shape)
        sample = {key: torch.from_numpy(array) for key, array in arrays.items() if key in ("image", "label")}
        return {**sample, "volume": index}
