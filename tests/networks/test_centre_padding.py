"""Padding around an image and its undoing."""

import numpy as np
import pytest
import torch

from mtmed.networks.centre_padding import crop_centre, pad_centre


@pytest.mark.parametrize("size", [(5, 16, 33), (17, 1), (30,)])
def test_zeros_are_put_around_up_to_the_next_multiple_and_cropped_again(size: tuple[int, ...]) -> None:
    image = torch.rand(2, 3, *size)
    padded = pad_centre(image, 16)
    widths = [(0, 0), (0, 0), *((-side % 16 // 2, (-side % 16 + 1) // 2) for side in size)]
    np.testing.assert_array_equal(padded.numpy(), np.pad(image.numpy(), widths))
    assert torch.equal(crop_centre(padded, list(size)), image)


def test_what_fits_is_left_as_it_is() -> None:
    image = torch.rand(1, 1, 16, 32)
    assert pad_centre(image, 16) is image
    assert crop_centre(image, [16, 32]) is image


def test_scripted_functions_give_the_same() -> None:
    image = torch.rand(1, 2, 7, 16, 33)
    padded = torch.jit.script(pad_centre)(image, 16)
    assert torch.equal(padded, pad_centre(image, 16))
    assert torch.equal(torch.jit.script(crop_centre)(padded, [7, 16, 33]), image)
