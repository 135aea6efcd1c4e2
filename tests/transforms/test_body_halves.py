import numpy as np
import pytest
import torch
from kidney_phantom import phantom, sample, value_at
from monai.data import MetaTensor
from scipy import ndimage

from mtmed.errors import InputError
from mtmed.transforms import BodyHalvesd
from mtmed.transforms.body import body_mask


@pytest.mark.parametrize("shift", [0.0, 40.0, -25.0])
def test_the_halves_share_the_bounding_box_of_an_off_centre_body(shift):
    image, label, affine = phantom(shift=shift)
    side = BodyHalvesd()(sample(image, label, affine))["side"]
    assert side.shape == (1, *image.shape)
    assert side.dtype == torch.uint8
    box = ndimage.find_objects(body_mask(image, spacing=(4, 4, 4)).astype(int))[0]
    outside = side.as_tensor()[0].numpy().copy()
    assert (outside[box] > 0).all()
    outside[box] = 0
    assert not outside.any()
    assert value_at(side, (shift - 150, -80, 0)) == 1
    assert value_at(side, (shift + 150, 80, 0)) == 2
    sizes = [int((side == value).sum()) for value in (1, 2)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


def test_without_air_the_halves_are_those_of_the_grid():
    image = np.random.default_rng(0).uniform(-80, 300, (9, 6, 4)).astype(np.float32)
    side = BodyHalvesd(side_key="half")(sample(image, image, np.eye(4)))["half"].as_tensor()[0]
    assert (side[:4] == 1).all()
    assert (side[4:] == 2).all()


def test_no_label_is_needed_and_the_image_is_left_alone():
    image, _, affine = phantom()
    given = {"image": MetaTensor(image[None], affine=affine)}
    made = BodyHalvesd()(given)
    assert made["image"] is given["image"]
    assert set(made) == {"image", "side"}
    assert torch.equal(made["side"].affine, given["image"].affine)


def test_other_axes_or_none_are_refused():
    image, label, affine = phantom()
    with pytest.raises(InputError, match=r"is oriented LAS, .* put Orientationd with axcodes 'RAS' for 'image'"):
        BodyHalvesd()(sample(image, label, np.diag([-1.0, 1, 1, 1]) @ affine))
    with pytest.raises(InputError, match="image: has no affine"):
        BodyHalvesd()({"image": torch.from_numpy(image)[None]})
