from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mtmed.transforms.skull_stripping import LARGEST_BRAIN, brain_depth, why_not_skull_stripped


def ball(radius: float, *, size: int = 64, spacing: float = 4.0) -> NDArray[np.float64]:
    """Distance from the centre, mm, inside a ball; 0 outside."""
    axis = (np.arange(size) - (size - 1) / 2) * spacing
    distance = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    return np.where(distance < radius, distance + 1e-3, 0.0)


def head(radius: float) -> NDArray[np.float64]:
    distance = ball(radius, spacing=3.0)
    return np.select([distance == 0, distance > radius - 6, distance > radius - 14], [0.0, 400.0, 60.0], 300.0)


def test_a_brain_on_zero_passes() -> None:
    brain = ball(70.0)
    assert why_not_skull_stripped(400.0 - brain * (brain > 0), spacing=(4, 4, 4)) is not None  # background of 400
    assert why_not_skull_stripped(np.where(brain > 0, 400.0 - brain, 0.0), spacing=(4, 4, 4)) is None


def test_more_than_a_brain_is_refused_by_its_volume_in_litres_at_any_spacing() -> None:
    radius = (LARGEST_BRAIN * 1.1 * 1e6 * 3 / (4 * np.pi)) ** (1 / 3)
    for spacing in (3.0, 4.0):
        reason = why_not_skull_stripped(np.sign(ball(radius, spacing=spacing)), spacing=(spacing,) * 3)
        assert reason is not None
        assert "2.6 litres" in reason
    assert why_not_skull_stripped(np.sign(ball(radius * 0.9)), spacing=(4, 4, 4)) is None


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.01, -2.5)])
def test_a_small_head_is_refused_by_scalp_and_skull_on_any_scale(scale: float, offset: float) -> None:
    scan = head(75.0)
    scan = np.where(scan > 0, scan * scale + offset, 0.0)
    reason = why_not_skull_stripped(scan, spacing=(3, 3, 3))
    assert reason is not None
    assert "scalp" in reason


def test_depth_is_the_distance_to_the_outside_in_mm_with_holes_filled() -> None:
    brain = np.sign(ball(60.0, size=48))
    brain[24, 24, 24] = 0.0
    expected = ndimage.distance_transform_edt(ball(60.0, size=48) > 0, sampling=4.0)
    np.testing.assert_allclose(brain_depth(brain, spacing=(4, 4, 4)), expected)


@pytest.mark.real
def test_real_scans_with_skull_are_refused_and_stripped_ones_pass(real_data: Path) -> None:
    heads = sorted((real_data / "ms_open_longitudinal").glob("patient*/*_T1W.nii.gz"))
    brains = [*(real_data / "ms_open_mni").glob("patient*/T1_*"), *(real_data / "mni152_tissue").glob("*_t1_*")]
    assert (len(heads), len(brains)) == (3, 3)
    for path in [*heads, *brains]:
        image = nib.load(path)
        spacing = np.linalg.norm(image.affine[:3, :3], axis=0).tolist()
        reason = why_not_skull_stripped(np.asarray(image.dataobj, np.float32), spacing=spacing)
        assert (reason is None) == (path in brains), path
