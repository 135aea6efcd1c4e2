"""The left and the right half of the body, found without any label."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.transforms import MapTransform
from scipy import ndimage

from mtmed.transforms.body import body_mask, grid_middle, median_index
from mtmed.transforms.ras import map_like, ras_voxels

__all__ = ["BodyHalvesd"]


class BodyHalvesd(MapTransform):
    """Add a map of the halves of the body: 1 left, 2 right of the mid-sagittal plane, 0 outside of its bounding box.

    All voxels of the box's half have the value, not only the tissue in it. Where no body is seen against air
    (`mtmed.transforms.body.body_mask`) the halves are those of the grid. Adds a `MetaTensor` (1, H, W, D) uint8.

    Args:
        image_key: entry with the CT in HU, `MetaTensor` (1, H, W, D), axes R, A, S, so this comes before the intensity
            window.
        side_key: entry to add.

    Raises:
        InputError: the image has no affine, or other axes than R, A, S.
    """

    def __init__(self, image_key: str = "image", side_key: str = "side") -> None:
        super().__init__(image_key)
        self.side_key = side_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the map."""
        result = dict(data)
        for key in self.key_iterator(result):
            image, spacing = ras_voxels(result[key], str(key))
            body = body_mask(image, spacing=spacing)
            sides = np.zeros(image.shape, np.uint8)
            if body is None:
                box: tuple[slice, ...] = (slice(None),) * 3
                mid = grid_middle(image.shape)
            else:
                box, mid = ndimage.find_objects(body.view(np.uint8))[0], median_index(body)
            halves = np.where(np.arange(image.shape[0]) < mid, 1, 2).astype(np.uint8)
            sides[box] = halves[box[0], None, None]
            result[self.side_key] = map_like(sides, result[key])
        return result
