"""Packed masks resized mask by mask."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Resized
from skimage.transform import resize

from mtmed.organ_masks import pack_masks, unpack_masks
from mtmed.transforms.mask_resizing import ResizeMasksd


def masks():
    result = torch.zeros((3, 4, 20, 30), dtype=torch.bool)
    result[0, 1:, 3:14, 4:19] = result[1, :3, 8:17, 12:27] = result[2, 2, ::2, ::3] = True
    return result


@pytest.mark.parametrize("size", [(13, 17), (40, 45)])
def test_masks_are_those_of_scikit_image_above_one_half(size):
    packed = pack_masks(masks())
    found = unpack_masks(ResizeMasksd(spatial_size=(-1, *size), organs=3)({"label": packed})["label"], 3)
    assert found.shape == (3, 4, *size)
    for organ in range(3):
        for index in range(4):
            mask = masks()[organ, index].numpy().astype(np.float64)
            linear = resize(mask, size, order=1, mode="edge", anti_aliasing=False)
            undecided = np.abs(linear - 0.5) < 1e-6
            np.testing.assert_array_equal(found[organ, index].numpy()[~undecided], (linear > 0.5)[~undecided])


def test_overlaps_do_not_blur_into_other_organs():
    packed = pack_masks(masks()[:2])
    result = ResizeMasksd(spatial_size=(-1, 13, 17), organs=2)({"label": packed})["label"]
    assert result.dtype == torch.uint8
    assert set(result.unique().tolist()) == {0, 1, 2, 3}
    alone = ResizeMasksd(spatial_size=(-1, 13, 17), organs=1)({"label": pack_masks(masks()[:1])})["label"]
    assert torch.equal(result & 1, alone), "an organ does not depend on the others"


def test_the_grid_is_that_of_the_resized_image():
    affine = torch.diag(torch.tensor([3.0, 2.0, 1.5, 1.0]))
    image, label = MetaTensor(torch.rand(1, 4, 20, 30), affine=affine), MetaTensor(pack_masks(masks()), affine=affine)
    expected = Resized("image", (-1, 12, 16), mode="trilinear")({"image": image})["image"]
    found = ResizeMasksd(spatial_size=(-1, 12, 16), organs=3)({"label": label})["label"]
    assert found.shape[1:] == expected.shape[1:]
    torch.testing.assert_close(found.affine, expected.affine)


def test_a_case_without_label_passes():
    data = {"image": torch.zeros(1, 2, 3, 3)}
    assert ResizeMasksd(spatial_size=(-1, 5, 5), organs=3, allow_missing_keys=True)(data) == data


def test_single_images_are_resized_as_well():
    packed = pack_masks(masks()[:, 1])
    found = ResizeMasksd(spatial_size=(13, 17), organs=3)({"label": packed})["label"]
    stacked = ResizeMasksd(spatial_size=(-1, 13, 17), organs=3)({"label": pack_masks(masks())})["label"]
    assert torch.equal(found, stacked[:, 1])
