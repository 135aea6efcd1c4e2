"""Projector: widths, the function it computes, gradients, mixed precision."""

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks.projector import Projector


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_widths_are_c_c_2c(spatial_dims: int) -> None:
    projector = Projector(5, spatial_dims=spatial_dims)
    image = torch.randn(2, 5, *(4,) * spatial_dims)
    assert projector.out_channels == 10
    assert projector(image).shape == (2, 10, *(4,) * spatial_dims)
    assert [tuple(p.shape[:2]) for p in projector.parameters() if p.dim() > 1] == [(5, 5), (5, 5), (10, 5)]


def test_computes_a_perceptron_on_each_voxel() -> None:
    projector = Projector(3, spatial_dims=2).double()
    image = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    voxels = image.movedim(1, -1).flatten(0, -2)
    for convolution, norm in ((projector[0], projector[1]), (projector[3], projector[4])):
        voxels = voxels @ convolution.weight.flatten(1).T
        voxels = (voxels - voxels.mean(0)) / (voxels.var(0, correction=0) + norm.eps).sqrt()
        voxels = (voxels * norm.weight + norm.bias).relu()
    voxels = voxels @ projector[6].weight.flatten(1).T + projector[6].bias
    torch.testing.assert_close(projector(image), voxels.view(2, 4, 5, 6).movedim(-1, 1))


def test_gradient_is_the_numerical_gradient() -> None:
    torch.manual_seed(0)
    projector = Projector(2, spatial_dims=3).double()
    image = torch.randn(2, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(projector, (image,))


def test_every_parameter_gets_a_gradient_in_mixed_precision() -> None:
    torch.manual_seed(0)
    projector = Projector(4, spatial_dims=3)
    with torch.autocast("cpu", torch.bfloat16):
        output = projector(torch.randn(2, 4, 4, 4, 4))
    output.float().square().sum().backward()
    assert output.dtype == torch.bfloat16
    for parameter in projector.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0


def test_unusable_arguments_are_named() -> None:
    with pytest.raises(InputError, match="spatial_dims"):
        Projector(4, spatial_dims=4)
    with pytest.raises(InputError, match="channels"):
        Projector(0, spatial_dims=3)
