"""How well the highest probability of an image tells images with an organ from those without."""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mtmed.metrics.interval import resampled_interval

__all__ = ["ImageAuc", "image_auc"]

_AT_ONCE = 400_000  # numbers, of each of a few arrays


class ImageAuc(NamedTuple):
    """Area under the ROC curve with its 95 % interval; NaN where there is none.

    Attributes:
        value: the area.
        low: lower end.
        high: upper end.
        positives: number of images with the organ.
        negatives: number of images without it.
        patients: number of patients that the images come from.
    """

    value: float
    low: float
    high: float
    positives: int
    negatives: int
    patients: int


def image_auc(
    scores: Sequence[float], positive: Sequence[bool], patients: Sequence[Hashable], *, seed: int = 0
) -> ImageAuc:
    r"""Area under the ROC curve over images, by the Mann-Whitney statistic, with an interval over patients.

    With scores :math:`s_i` of the P images with the organ and :math:`t_j` of the N images without it

    .. math:: \frac{1}{P N} \sum_{i, j} [s_i > t_j] + \frac{1}{2} [s_i = t_j].

    It is undefined, NaN, if all images have the organ or none has. The interval is the expanded percentile bootstrap of
    `mtmed.metrics.resampled_interval`: patients are drawn as a whole, with all of their images; draws without images of
    both kinds are left out. One patient has no interval.

    Args:
        scores: of each image, for example its highest probability; images whose score is NaN are left out.
        positive: whether the reference has the organ in it.
        patients: whose each image is.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if the lengths differ.
    """
    if not len(scores) == len(positive) == len(patients):
        found = f"{len(scores)} scores of {len(positive)} images of {len(patients)} patients"
        raise ValueError(f"There are {found}; give one of each per image.")
    given = np.asarray(scores, np.float64)
    counted = ~np.isnan(given)
    present = np.asarray(positive, bool)[counted]
    numbers: dict[Hashable, int] = {}
    owners = np.array(
        [numbers.setdefault(name, len(numbers)) for name, use in zip(patients, counted, strict=True) if use], np.int64
    )
    levels, level = np.unique(given[counted], return_inverse=True)
    # images of each patient with each score
    with_organ, without = (
        csr_array((np.ones(kind.sum()), (owners[kind], level[kind])), shape=(len(numbers), len(levels)))
        for kind in (present, ~present)
    )

    def area(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        step = max(1, _AT_ONCE // len(levels))
        parts = [_area(drawn[first : first + step], with_organ, without) for first in range(0, len(drawn), step)]
        return np.concatenate(parts)

    value = low = high = math.nan
    positives, negatives = int(present.sum()), int((~present).sum())
    if positives and negatives:
        value = float(area(np.ones((1, len(numbers))))[0])
        if len(numbers) > 1:
            low, high = resampled_interval(area, len(numbers), seed=seed)
    return ImageAuc(value, low, high, positives, negatives, len(numbers))


def _area(drawn: NDArray[np.float64], with_organ: csr_array, without: csr_array) -> NDArray[np.float64]:
    """The area if patients are drawn so often, R P; NaN where images of one kind are not drawn."""
    above: NDArray[np.float64] = drawn @ with_organ
    below: NDArray[np.float64] = drawn @ without
    pairs = above.sum(1) * below.sum(1)
    won = (above * (below.cumsum(1) - below / 2)).sum(1)
    nothing = np.full(len(drawn), math.nan)
    return np.asarray(np.divide(won, pairs, out=nothing, where=pairs > 0))
