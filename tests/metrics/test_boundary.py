"""Boundaries of masks against scikit-image, and our rule at the border of the image."""

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import find_boundaries

from mtmed.metrics import boundary_difference
from mtmed.metrics.boundary import bounding_box, inner_boundary


def _mask(seed, share=0.2, shape=(22, 18, 14)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.pad(noise > np.quantile(noise, 1 - share), 1)


@pytest.mark.parametrize("seed", range(4))
def test_boundaries_away_from_the_border_equal_scikit_image(seed):
    prediction, reference = _mask(seed), _mask(seed, 0.3)
    for mask in (prediction, reference, prediction[:, 9]):
        padded = np.pad(mask, 1)
        assert np.array_equal(inner_boundary(padded), find_boundaries(padded, mode="inner"))
    lengths = [find_boundaries(mask, mode="inner").sum() for mask in (prediction, reference)]
    expected = abs(int(lengths[0]) - int(lengths[1])) / lengths[1]
    assert boundary_difference(prediction, reference) == pytest.approx(expected, rel=1e-12)
    assert expected > 0


def test_a_voxel_on_the_border_of_the_image_is_on_the_boundary():
    full = np.ones((4, 5, 6), bool)
    assert inner_boundary(full).sum() == 4 * 5 * 6 - 2 * 3 * 4
    assert not find_boundaries(full, mode="inner").any()
    inside = np.zeros((6, 7, 8), bool)
    inside[1:-1, 1:-1, 1:-1] = True
    assert boundary_difference(full, full) == 0
    assert boundary_difference(inside[1:-1, 1:-1, 1:-1], full) == 0
    # where the organ lies in the image, and how much room there is around it, changes nothing
    assert boundary_difference(inside, np.pad(full[:3], ((1, 2), (1, 1), (1, 1)))) == boundary_difference(
        full, np.pad(full[:3], ((0, 1), (0, 0), (0, 0)))
    )


def test_the_difference_is_a_share_of_the_references_length_whichever_is_longer():
    short, long = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    short[4, 2:5] = True
    long[4, 2:8] = True
    assert boundary_difference(long, short) == 1.0
    assert boundary_difference(short, long) == 0.5
    assert boundary_difference(np.roll(short, 3, axis=0), short) == 0.0


def test_empty_masks():
    empty, full = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    assert boundary_difference(empty, full) == 1.0
    assert math.isnan(boundary_difference(full, empty))
    assert math.isnan(boundary_difference(empty, empty))


def test_the_box_is_the_smallest_that_holds_the_mask():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2:4, 6] = True
    assert bounding_box(mask) == (slice(1, 2), slice(2, 4), slice(6, 7))
    assert mask[bounding_box(np.zeros((5, 6, 7), bool))].size == 0
