"""Intensities of slices from 0 to 1."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mtmed.errors import InputError
from mtmed.transforms.slice_intensity import ScaleSlicesd


def scan(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(-50, 900, (2, 4, 5, 6), generator=generator).to(dtype)
    image[0, 1] = 70
    return image


def scaled(voxels, axes):
    """Reference in float64."""
    voxels = voxels.numpy().astype(np.float64)
    low, high = voxels.min(axes, keepdims=True), voxels.max(axes, keepdims=True)
    return np.divide(voxels - low, high - low, out=np.zeros_like(voxels), where=high > low)


@pytest.mark.parametrize(("per", "axes"), [("slice", (2, 3)), ("scan", (1, 2, 3))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_each_slice_or_scan_has_its_own_range_per_channel(per, axes, dtype):
    image = scan(dtype)
    result = ScaleSlicesd(per=per)({"image": image})["image"]
    np.testing.assert_allclose(result, scaled(image, axes), atol=1e-6)
    assert result.dtype == torch.float32
    assert result.amin(axes).max() == 0


def test_a_constant_slice_becomes_zero():
    result = ScaleSlicesd()({"image": scan()})["image"]
    assert (result[0, 1] == 0).all()
    assert result[1, 1].max() == 1
    assert (ScaleSlicesd(per="scan")({"image": torch.full((1, 2, 3, 3), 7.0)})["image"] == 0).all()


def test_scaling_is_blind_to_gain_and_offset():
    image = scan()
    first, second = (ScaleSlicesd()({"image": voxels})["image"] for voxels in (image, 3 * image - 40))
    torch.testing.assert_close(first, second)


def test_affine_and_other_entries_are_kept():
    affine = torch.diag(torch.tensor([3.0, 2.0, 1.5, 1.0]))
    image = MetaTensor(scan(), affine=affine)
    result = ScaleSlicesd()({"image": image, "label": image})
    assert torch.equal(result["image"].affine, affine.to(result["image"].affine))
    assert result["label"] is image
    assert image.max() > 1, "the given image is left as it is"


def test_other_ranges_are_refused():
    with pytest.raises(InputError, match=r"ScaleSlicesd\.per: is 'volume'; choose one of slice, scan"):
        ScaleSlicesd(per="volume")
