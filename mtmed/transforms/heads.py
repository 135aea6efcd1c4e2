"""Label maps of a network with several heads."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = ["SplitHeadsd"]


class SplitHeadsd(MapTransform):
    """Give each channel of a label map its own entry: the first keeps the name, the others get `names`.

    For a bundle's ``postprocessing``, behind an inferer with several heads. Works on one case (C, H, W, D) and on a
    batch (B, C, H, W, D) alike.

    Args:
        keys: the entry with one channel per head.
        names: of the entries for the second head and those after it.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: if there are not as many channels as heads.
    """

    def __init__(self, keys: KeysCollection, *, names: Sequence[str] = (), spatial_dims: int = 3) -> None:
        super().__init__(keys)
        self.names = tuple(names)
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Split the channels of each entry."""
        result = dict(data)
        for key in self.key_iterator(result):
            maps = result[key]
            axis = maps.dim() - self.spatial_dims - 1
            if maps.shape[axis] != 1 + len(self.names):
                raise ValueError(f"{key} has {maps.shape[axis]} channels; give {1 + len(self.names)}, one per head.")
            for channel, name in enumerate((key, *self.names)):
                result[name] = maps.narrow(axis, channel, 1)
        return result
