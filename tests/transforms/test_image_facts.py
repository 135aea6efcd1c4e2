"""What is noted of an image before it is resized, and features as planes."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mtmed.errors import InputError
from mtmed.transforms.slice_features import AppendSliceFeaturesd, ImageFactsd


def scan():
    return MetaTensor(torch.rand(2, 3, 10, 8), affine=torch.diag(torch.tensor([3.0, -2.0, 1.5, 1.0])))


def test_rows_and_columns_are_not_confused():
    facts = ImageFactsd()({"image": scan()})["facts"]
    assert facts == {"pixel_height": 2.0, "pixel_width": 1.5, "image_height": 10.0, "image_width": 8.0}
    assert all(isinstance(value, float) for value in facts.values())


def test_facts_of_other_transforms_are_kept():
    assert ImageFactsd()({"image": scan(), "facts": {"field_strength": 1.5}})["facts"]["field_strength"] == 1.5


def test_images_without_affine_and_several_images_are_refused():
    with pytest.raises(InputError, match=r"image: is a Tensor \[2, 3, 10, 8\], expected are C D H W and an affine"):
        ImageFactsd()({"image": torch.rand(2, 3, 10, 8)})
    with pytest.raises(InputError, match=r"image: is a MetaTensor \[2, 10, 8\]"):
        ImageFactsd()({"image": scan()[:, 0]})
    with pytest.raises(InputError, match=r"ImageFactsd\.keys: are image, label; name one image"):
        ImageFactsd(["image", "label"])


def test_planes_are_appended_behind_the_image():
    image = scan()
    data = {"image": image, "facts": {"pixel_width": 1.5}, "metadata": {"day_number": 3}}
    result = AppendSliceFeaturesd(features=["day_number", "slice_position", "pixel_width", "case_number"])(data)[
        "image"
    ]
    assert torch.equal(result[:2], image)
    assert result.dtype == torch.float32
    expected = np.array([[3, 0, 1.5, np.nan], [3, 0.5, 1.5, np.nan], [3, 1, 1.5, np.nan]]).T
    np.testing.assert_array_equal(result[2:], np.broadcast_to(expected[:, :, None, None], (4, 3, 10, 8)))
    assert torch.equal(result.affine, image.affine)


def test_without_features_the_image_is_left_as_it_is():
    image = scan()
    assert AppendSliceFeaturesd(features=[])({"image": image})["image"] is image


def test_a_single_slice_lies_at_position_zero():
    result = AppendSliceFeaturesd(features=["slice_position"])({"image": torch.rand(1, 1, 4, 4)})["image"]
    assert (result[1] == 0).all()
