"""One slice of a volume, or several neighbouring ones as channels, as a 2D sample."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtmed.data.draw import Box
from mtmed.data.volumes import Volume

__all__ = ["read_slice"]


def read_slice(volume: Volume, box: Box) -> dict[str, NDArray[Any]]:
    """Read a box that is one voxel thick along the first axis, without this axis.

    Args:
        volume: where to read, slices along its first axis.
        box: with ``slice_offsets``. Offset by offset, all channels of the slice so far away become channels; beyond the
            first and the last slice these are repeated.

    Returns:
        ``image`` float32 (offsets * C, H, W); unless the box is of the image only, label, distance and maps of its own
        slice, (1, H, W).

    Raises:
        ValueError: the box is no slice of this volume.
    """
    slices, index = volume.shape[0], box.start[0]
    if not box.slice_offsets or len(volume.shape) != 3 or box.size[0] != 1 or not 0 <= index < slices:
        raise ValueError(f"the box is {box}, {volume.case.key} has {slices} slices; draw one of them, with offsets")
    maps = {} if box.image_only else volume.crop_maps(box.start, box.size)
    arrays = {name: values[:, 0] for name, values in maps.items()}
    image = np.empty((len(box.slice_offsets) * volume.channels, *box.size), np.float32)
    for number, offset in enumerate(box.slice_offsets):
        shown = (min(max(index + offset, 0), slices - 1), *box.start[1:])
        volume.crop_image(shown, box.size, out=image[number * volume.channels : (number + 1) * volume.channels])
    return {"image": image[:, 0], **arrays}
