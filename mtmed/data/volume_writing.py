"""A prepared case as files: its arrays one after another, and the record of what they are."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mtmed.data.distance import DistanceUnit, boundary_distance, voxel_size
from mtmed.data.record import ArrayPlace, Record, file_checksum
from mtmed.data.volumes import DATA_NAME, RECORD_NAME
from mtmed.data.voxel_check import finite_extremes

__all__ = ["write_volume"]

_TABLE_ROWS = 20_000


def write_volume(
    folder: Path,
    *,
    image: torch.Tensor,
    paths: Sequence[str],
    labels: Mapping[str, NDArray[Any]],
    affine: NDArray[np.float64],
    distance: DistanceUnit | None,
    remarks: Sequence[str],
    facts: Mapping[str, float],
) -> Record:
    """Write one case.

    Args:
        folder: an empty folder.
        image: float32 (C, H, W, D).
        paths: files of the image, to name in an error.
        labels: ``label``, if there is one, and the maps: whole numbers, each (H, W, D).
        affine: voxel index to RAS+ mm, 4 x 4.
        distance: unit of the distance to the boundary of the label's classes; None leaves it out.
        remarks: see `Record`.
        facts: see `Record`.

    Returns:
        What was written beside the voxels.

    Raises:
        InputError: a voxel is NaN or infinite.
        OSError: the files cannot be written.
    """
    slopes, intercepts = [], []
    stored = np.empty(tuple(image.shape), np.uint16)
    for channel, (low, high) in enumerate(finite_extremes(paths, image)):
        slope, intercept = _scale(low, high)
        voxels = (image[channel] - intercept).mul_(1 / slope).round_().clamp_(0, 65535)
        np.copyto(stored[channel], voxels.numpy(), casting="unsafe")
        slopes.append(slope)
        intercepts.append(intercept)
    arrays: dict[str, NDArray[Any]] = {"image": stored, **labels}
    classes: tuple[int, ...] = ()
    if "label" in labels:
        label = labels["label"]
        if distance is not None:
            arrays["distance"] = boundary_distance(label, spacing=voxel_size(affine, distance))
        classes = tuple(int(value) for value in torch.bincount(torch.from_numpy(label).flatten()).nonzero())
        flat = label.reshape(-1)
        foreground = np.flatnonzero(flat > 0)
        inside = flat[foreground]
        for value in classes:
            places = foreground[inside == value] if value else np.flatnonzero(flat == 0)
            arrays[f"class {value}"] = _table(places, label.shape)
        arrays["foreground"] = _table(foreground, label.shape)
    written: dict[str, ArrayPlace] = {}
    data = folder / DATA_NAME
    with data.open("wb") as stream:
        for name, array in arrays.items():
            stream.write(bytes(-stream.tell() % 64))
            written[name] = ArrayPlace(array.dtype.str, array.shape, stream.tell())
            stream.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        stream.flush()
        os.fsync(stream.fileno())
    record = Record(
        arrays=written,
        affine=affine.tolist(),
        slope=slopes,
        intercept=intercepts,
        classes=classes,
        bounds={name: _bounds(values) for name, values in labels.items()},
        remarks=tuple(remarks),
        facts={name: float(value) for name, value in facts.items()},
        size=data.stat().st_size,
        checksum=file_checksum(data),
    )
    (folder / RECORD_NAME).write_text(record.text())
    return record


def _bounds(values: NDArray[Any]) -> dict[int, list[int]]:
    """First voxel and the voxel after the last one of each value > 0; of all voxels, where tables may be subsamples."""
    found = ndimage.find_objects(values)
    return {
        value: [axis.start for axis in box] + [axis.stop for axis in box]
        for value, box in enumerate(found, start=1)
        if box is not None
    }


def _scale(low: float, high: float) -> tuple[float, float]:
    """Slope and intercept by which 0 to 65535 span the range; where it holds 0, one of these numbers stands for it."""
    slope = float(np.float32((high - low) / 65535)) or 1.0
    if not low < 0 < high:
        return slope, low
    steps = np.float32(round(-low / slope))
    return slope, -float(np.float32(slope) * steps)


def _table(places: NDArray[np.int64], shape: Sequence[int]) -> NDArray[np.int16]:
    if len(places) > _TABLE_ROWS:
        # a fixed key: the table is part of the entry, not of a run
        generator = np.random.Generator(np.random.Philox(key=len(places)))
        places = places[np.sort(generator.choice(len(places), _TABLE_ROWS, replace=False, shuffle=False))]
    return np.stack(np.unravel_index(places, tuple(shape)), axis=-1).astype(np.int16)
