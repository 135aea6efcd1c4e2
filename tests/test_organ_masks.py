"""Masks that overlap as bits of one map."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.organ_masks import organ_values, pack_masks, packed_names, unpack_masks

ORGANS = ["large_bowel", "small_bowel", "stomach"]


@pytest.mark.parametrize("organs", [1, 3, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_each_organ_has_its_bit_and_comes_back(organs, axis):
    masks = np.random.default_rng(0).random((organs, 4, 5, 6) if axis == 0 else (2, organs, 5, 6)) > 0.5
    expected = sum(masks.take(k, axis).astype(int) << k for k in range(organs))
    turned = torch.from_numpy(masks).permute(0, 1, 3, 2)
    for packed in (pack_masks(masks, axis=axis), pack_masks(turned, axis=axis).permute(0, 1, 3, 2).numpy()):
        assert packed.dtype == np.uint8
        assert packed.shape[axis] == 1
        assert np.array_equal(packed.squeeze(axis), expected)
        assert np.array_equal(unpack_masks(packed, organs, axis=axis), masks)
        assert np.array_equal(unpack_masks(torch.from_numpy(packed.copy()), organs, axis=axis).numpy(), masks)


def test_anything_but_zero_is_inside_and_further_bits_are_passed_over():
    assert pack_masks(torch.tensor([[0.0, 0.1], [-2.0, 0.0]])).tolist() == [[2, 1]]
    assert unpack_masks(torch.tensor([[255.0, 4.0]]), 2).tolist() == [[1, 0], [1, 0]]


def test_values_and_names_follow_the_bits():
    assert organ_values(ORGANS) == {"large_bowel": (1, 3, 5, 7), "small_bowel": (2, 3, 6, 7), "stomach": (4, 5, 6, 7)}
    names = packed_names(ORGANS)
    assert list(names) == list(range(8))
    assert names[0] == "background"
    assert names[4] == "stomach"
    assert names[5] == "large_bowel + stomach"


def test_more_organs_than_bits_and_maps_that_are_not_packed_are_refused():
    for masks in (torch.zeros(9, 2), np.zeros((9, 2))):
        with pytest.raises(ValueError, match="9 masks"):
            pack_masks(masks)
    with pytest.raises(ValueError, match="has length 2"):
        unpack_masks(torch.zeros(2, 2), 3)
    for organs in ([], ["a", "a"], [str(k) for k in range(9)]):
        with pytest.raises(InputError, match="organs"):
            organ_values(organs)
