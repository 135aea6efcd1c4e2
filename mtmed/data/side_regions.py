"""Every kidney of a cohort once, for validation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from mtmed.data.draw import checked_size
from mtmed.data.region import SIDES, Region, centred_start, read_region
from mtmed.data.volumes import Volumes

__all__ = ["SideRegions"]


class SideRegions(Dataset[dict[str, Any]]):
    """Each kidney of each volume as one sample, cut out as `mtmed.data.SidePair` does.

    A sample has ``image`` (float32, C H W D), ``label`` (the side as a LongTensor without axes: 1 left, 2 right),
    ``volume`` (index of its volume) and ``group`` (``dataset/patient``). Volumes without kidneys give no sample.

    Args:
        volumes: from `VolumeStore.build`.
        region_size: extent of the boxes (H, W, D), voxels.
        constant: show the shape alone, 1 inside and 0 outside.
        mirror_right: flip right kidneys along the first axis.
        map: name of the map of sides.

    Raises:
        InputError: `region_size` is not 2 or 3 whole numbers >= 1.
    """

    def __init__(
        self,
        volumes: Volumes,
        *,
        region_size: Sequence[int],
        constant: bool = False,
        mirror_right: bool = False,
        map: str = "side",
    ) -> None:
        self.volumes = volumes
        self.region_size = checked_size("region_size", region_size)
        mirrored = {side: mirror_right and name == "right" for side, name in SIDES.items()}
        regions = [Region(map, side, constant, mirrored[side]) for side in SIDES]
        self._items = sorted((index, region) for region in regions for index in volumes.having(map, region.value))

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, region = self._items[index]
        volume = self.volumes[number]
        image = read_region(volume, centred_start(volume, self.region_size, region), self.region_size, region)
        return {
            "image": torch.from_numpy(image),
            "label": torch.tensor(region.value),
            "volume": number,
            "group": "/".join(self.volumes.patient(number)),
        }
