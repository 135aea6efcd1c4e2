"""The one slice of a case that a picture shows, read from the files of all arms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from mtmed.metrics.case_report import Values, read_reference
from mtmed.metrics.scores import has_value
from mtmed.studies.case_figure import CaseRow
from mtmed.studies.results import CaseFiles
from mtmed.transforms.reading import read_volume
from mtmed.transforms.resampling import first_channel_on_grid
from mtmed.transforms.writing import resample_label_to

__all__ = ["case_row"]

_SURROUNDINGS = 15.0  # of what is outlined, whose values set the window, mm


def case_row(
    files: Mapping[str, CaseFiles], organs: Sequence[str], *, heading: str, dice: Mapping[str, str]
) -> CaseRow:
    """Read the axial slice with most of the reference; of the predictions, if the reference is empty.

    Image and predictions on another grid are brought to the reference's; image, reference and one prediction are in
    memory at a time.

    Args:
        files: files of the case in each arm; image and reference are the first arm's.
        organs: organs to outline, in order.
        heading: what to call the case; the number of the slice is added.
        dice: Dice of each arm, in words.

    Raises:
        InputError: if a file cannot be read, or image and reference lie apart.
    """
    first = next(iter(files.values()))
    volume = read_reference(str(first.reference), str(first.image))
    affine, shape = volume.affine, volume.data.shape
    pictured = first_channel_on_grid(read_volume(first.image), volume)
    reference = _in_ras(volume.data, affine)
    counts = _counts(reference, [first.organs[organ][1] for organ in organs if organ in first.organs])
    if not counts.any():
        for one in files.values():
            ours = [one.organs[organ][0] for organ in organs if organ in one.organs]
            counts = counts + _counts(_prediction(one, affine, shape), ours)
    cut = int(np.argmax(counts)) if counts.any() else reference.shape[2] // 2
    plane = _marked(reference[:, :, cut], first.organs, organs, 1)
    predictions = {
        arm: _marked(_prediction(one, affine, shape)[:, :, cut], one.organs, organs, 0) for arm, one in files.items()
    }
    image = np.array(_in_ras(pictured, affine)[:, :, cut], np.float32)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    axes = [int(axis) for axis in _orientation(affine)[:, 0]]
    spacing = (float(lengths[axes.index(0)]), float(lengths[axes.index(1)]))
    outlined = np.any([plane > 0, *(prediction > 0 for prediction in predictions.values())], axis=0)
    return CaseRow(
        heading=f"{heading}\naxial slice {cut + 1} of {reference.shape[2]}" if reference.shape[2] > 1 else heading,
        image=image,
        reference=plane,
        predictions=predictions,
        dice=dice,
        spacing=spacing,
        window=first.window or _window(image, outlined, spacing),
        single=reference.shape[2] == 1,
    )


def _prediction(files: CaseFiles, affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[Any]:
    """Predicted label map in RAS order, on the grid of the reference."""
    volume = read_reference(str(files.prediction))
    data = volume.data
    if data.shape != shape or not np.allclose(volume.affine, affine, atol=1e-3):
        data = resample_label_to(data, volume.affine, shape, affine)
    return _in_ras(data, affine)


def _counts(labels: NDArray[Any], values: Sequence[Values]) -> NDArray[np.int64]:
    """Voxels of any organ in each axial slice."""
    found = np.zeros(labels.shape, bool)
    for own in values:
        found |= has_value(labels, own)
    counts: NDArray[np.int64] = found.sum(axis=(0, 1))
    return counts


def _marked(
    labels: NDArray[Any], values: Mapping[str, tuple[Values, Values]], organs: Sequence[str], side: int
) -> NDArray[np.int64]:
    """Organs of each voxel as bits; `side` is 0 for the network's label values, 1 for the data set's."""
    found = np.zeros(labels.shape, np.int64)
    for number, organ in enumerate(organs):
        if organ in values:
            found[has_value(labels, values[organ][side])] |= 1 << number
    return found


def _orientation(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(io_orientation(affine))


def _in_ras(data: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    return np.asarray(apply_orientation(data, _orientation(affine)))


def _window(
    image: NDArray[np.float32], outlined: NDArray[np.bool_], spacing: tuple[float, float]
) -> tuple[float, float]:
    """Quantiles of the values in and around what is outlined, so that its contrast is seen in CT and MRI alike."""
    places = np.nonzero(outlined if outlined.any() else np.ones_like(outlined))
    box = tuple(
        slice(max(0, int(axis.min() - _SURROUNDINGS / step)), int(axis.max() + _SURROUNDINGS / step) + 1)
        for axis, step in zip(places, spacing, strict=True)
    )
    values = image[box][np.isfinite(image[box])]
    low, high = np.quantile(values, (0.005, 0.995)) if values.size else (0.0, 1.0)
    return float(low), float(high)
