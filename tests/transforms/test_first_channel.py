"""An image on the grid of a label map, for pictures."""

from dataclasses import replace

import numpy as np

from mtmed.transforms.nifti import NiftiVolume
from mtmed.transforms.resampling import first_channel_on_grid


def volume(data, affine):
    return NiftiVolume(data, affine, tuple(np.linalg.norm(affine[:3, :3], axis=0)), {}, "image.nii.gz")


def test_an_image_on_the_same_grid_is_passed_on_unchanged():
    image = volume(np.random.default_rng(0).normal(size=(4, 5, 6)), np.diag([1.0, 2.0, 3.0, 1.0]))
    assert first_channel_on_grid(image, image) is image.data


def test_an_image_that_is_stored_flipped_comes_back_in_its_place():
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    like = volume(np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32), affine)
    flipped = affine.copy()
    flipped[0, 0], flipped[0, 3] = -1.0, 3.0
    stored = replace(like, data=like.data[::-1], affine=flipped)
    np.testing.assert_allclose(first_channel_on_grid(stored, like), like.data, atol=1e-5)


def test_a_finer_image_gets_the_shape_of_the_label_map():
    like = volume(np.zeros((4, 4, 4), np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    fine = volume(np.full((8, 8, 8), 7.0, np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))
    assert (first_channel_on_grid(fine, like) == 7).all()


def test_the_first_of_several_channels_is_taken():
    data = np.stack([np.zeros((3, 3, 3)), np.ones((3, 3, 3))], axis=-1)
    image = volume(data, np.eye(4))
    assert (first_channel_on_grid(image, image) == 0).all()
