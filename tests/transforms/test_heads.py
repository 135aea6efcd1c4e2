"""Each head of a network gets an entry of its own."""

import pytest
import torch

from mtmed.transforms.heads import SplitHeadsd


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (3, 2, 4, 5, 6)])
def test_heads_of_a_case_and_of_a_batch_are_split(shape):
    maps = torch.randint(0, 4, shape)
    data = SplitHeadsd("pred", names=["tissue_pred"])({"pred": maps})
    lesion, tissue = maps.split(1, dim=len(shape) - 4)
    assert torch.equal(data["pred"], lesion)
    assert torch.equal(data["tissue_pred"], tissue)


def test_one_head_is_passed_on():
    maps = torch.zeros(1, 4, 5, 6)
    assert torch.equal(SplitHeadsd("pred")({"pred": maps})["pred"], maps)


def test_slices_have_two_spatial_dimensions():
    data = SplitHeadsd("pred", names=["b"], spatial_dims=2)({"pred": torch.zeros(2, 4, 5)})
    assert data["pred"].shape == data["b"].shape == (1, 4, 5)


def test_another_number_of_channels_than_heads_is_refused():
    with pytest.raises(ValueError, match="one per head"):
        SplitHeadsd("pred", names=["tissue_pred"])({"pred": torch.zeros(3, 4, 5, 6)})
