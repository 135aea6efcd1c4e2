"""Hints that a label is another image's, where both lie on one grid so that geometry says nothing.

The brightness of a label is the chance that one of its voxels is brighter than any voxel of the image (the area under
the ROC curve), which does not depend on the scale of the intensities. An organ has about the same in all cases of a
data set; under another case's label lie other tissues.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtmed.data.case import Case

__all__ = ["image_sample", "label_brightness", "pairing_hints"]

_SAMPLED = 200_000  # voxels of an image at most: more does not change the brightness
_FEWEST_VOXELS = 20
_FEWEST_CASES = 5
_FAR = 0.25  # difference of brightness, of which 0.5 is the whole way from an organ to a random place
_SPREADS = 6.0  # standard deviations, by the median absolute deviation
_DEVIATION = 1.4826  # from median absolute to standard deviation of a normal distribution


def image_sample(data: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Every n-th voxel of an image along each axis, and n; of several channels the first."""
    volume = data[..., 0] if data.ndim == 4 else data
    step = max(1, int(np.ceil((volume.size / _SAMPLED) ** (1 / volume.ndim))))
    return volume[(slice(None, None, step),) * volume.ndim].copy(), step


def label_brightness(
    label: NDArray[Any], voxels: Mapping[int, int], sample: tuple[NDArray[Any], int]
) -> dict[int, float]:
    """Brightness of each label value of which the sample has enough voxels, 0 to 1.

    Args:
        label: whole numbers on the image's grid.
        voxels: voxels of each value.
        sample: of the image, see `image_sample`.
    """
    values, step = sample
    volume = label[..., 0] if label.ndim == 4 else label
    on_sample = volume[(slice(None, None, step),) * volume.ndim]
    if on_sample.shape != values.shape:
        return {}
    ordered = np.sort(values, axis=None)
    brightness = {}
    for value in voxels:
        inside = values[on_sample == value]
        if value and inside.size >= _FEWEST_VOXELS:
            below, upto = (np.searchsorted(ordered, inside, side) for side in ("left", "right"))
            brightness[value] = float((below + upto).mean() / (2 * ordered.size))
    return brightness


def pairing_hints(
    cases: Sequence[tuple[Case, Mapping[int, float]]], names: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    """Key of a case and what should be looked at.

    Args:
        cases: cases of one data set, each with the brightness of its label values.
        names: of these values.
    """
    labelled: dict[str, str] = {}
    by_value: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for case, brightness in cases:
        # a table has the masks of many cases
        if case.label is not None and not case.label.lower().endswith(".csv"):
            other = labelled.setdefault(os.path.normpath(case.label), case.key)
            if other != case.key:
                yield case.key, f"has the same label as {other}; check that it is this image's"
        for value, number in brightness.items():
            by_value[value].append((case.key, number))
    for value, known in by_value.items():
        if len(known) < _FEWEST_CASES or value not in names:
            continue
        numbers = np.array([number for _, number in known])
        middle = float(np.median(numbers))
        spread = _DEVIATION * float(np.median(np.abs(numbers - middle)))
        for key, number in known:
            if abs(number - middle) > max(_FAR, _SPREADS * spread):
                kind = "brighter" if number > middle else "darker"
                problem = f"what is labelled {names[value]} is {kind} than in other cases"
                yield key, f"{problem}; check that the label is this image's"
