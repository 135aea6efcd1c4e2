"""Dice, HD95 and surface Dice against plain loops, SciPy and MONAI on awkward masks."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from mtmed.metrics import score_masks

SHAPE = (11, 9, 7)
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.9, 5.0), (3.0, 0.45, 0.45)]


def _masks():
    """Pairs of prediction and reference by what is awkward about them."""
    rng = np.random.default_rng(5)
    noise, other = rng.random(SHAPE) > 0.8, rng.random(SHAPE) > 0.7
    one, near, corner, border, block = (np.zeros(SHAPE, bool) for _ in range(5))
    one[5, 4, 3] = near[7, 4, 2] = corner[0, 0, 0] = True
    border[:4, :, 2:] = True
    block[3:8, 2:7, 1:5] = True
    return {
        "noise": (noise, other),
        "one voxel each": (one, near),
        "the same voxel": (one, one),
        "one voxel in a block": (one, block),
        "a corner of the image": (corner, block),
        "on the border": (border, block),
        "the whole image": (np.ones(SHAPE, bool), block),
        "far apart": (np.roll(block, 3, 0), corner),
    }


def _plain(prediction, reference, spacing, tolerance):
    """All scores by loops over voxels in float64: a surface voxel has a face neighbour outside the mask or image."""

    def surface(mask):
        found = []
        for voxel in np.argwhere(mask):
            for axis in range(3):
                for step in (-1, 1):
                    beside = voxel.copy()
                    beside[axis] += step
                    if not 0 <= beside[axis] < mask.shape[axis] or not mask[tuple(beside)]:
                        found.append(tuple(voxel))
        return [
            [index * length for index, length in zip(voxel, spacing, strict=True)] for voxel in dict.fromkeys(found)
        ]

    ours, theirs = surface(prediction), surface(reference)
    forth = [min(math.dist(one, other) for other in theirs) for one in ours]
    back = [min(math.dist(one, other) for other in ours) for one in theirs]
    near = sum(distance <= tolerance for distance in forth + back) / len(forth + back)
    dice = 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum())
    return dice, max(np.percentile(forth, 95), np.percentile(back, 95)), near


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", _masks())
def test_scores_equal_plain_loops(name, spacing):
    prediction, reference = _masks()[name]
    found = score_masks(prediction, reference, spacing, tolerance=2.0)
    dice, hd95, surface = _plain(prediction, reference, spacing, 2.0)
    assert found[0] == pytest.approx(dice, abs=1e-12)
    assert found[1] == pytest.approx(hd95, abs=1e-9)
    assert found[2] == pytest.approx(surface, abs=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", _masks())
def test_scores_equal_monais(name, spacing):
    prediction, reference = _masks()[name]
    # a margin, because MONAI does not count the border of the image as an end of the mask in every case
    wide = [np.pad(mask, 2) for mask in (prediction, reference)]
    tensors = [torch.from_numpy(mask)[None, None] for mask in wide]
    options = {"include_background": True, "spacing": spacing}
    dice, hd95, surface = score_masks(prediction, reference, spacing, tolerance=2.0)
    metric = DiceMetric(include_background=True)
    metric(*tensors)
    assert dice == pytest.approx(float(metric.aggregate()), abs=1e-6)
    assert hd95 == pytest.approx(float(compute_hausdorff_distance(*tensors, percentile=95, **options)), abs=1e-3)
    assert surface == pytest.approx(float(compute_surface_dice(*tensors, [2.0], **options)), abs=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", _masks())
def test_surface_distances_equal_scipys_distance_maps(name, spacing):
    prediction, reference = (np.pad(mask, 1) for mask in _masks()[name])
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, reference)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    forth, back = maps[1][edges[0]], maps[0][edges[1]]
    _, hd95, surface = score_masks(*_masks()[name], spacing, tolerance=2.0)
    assert hd95 == pytest.approx(max(np.quantile(forth, 0.95), np.quantile(back, 0.95)), abs=1e-6)
    assert surface == pytest.approx(((forth <= 2).sum() + (back <= 2).sum()) / (len(forth) + len(back)), abs=1e-6)
