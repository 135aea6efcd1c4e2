"""MomentNorm against torch's BatchNorm in one process (several processes: tests/losses/test_several_processes.py)."""

import pytest
import torch

from mtmed.networks.moment_norm import MomentNorm


@pytest.mark.parametrize("affine", [True, False])
def test_one_process_equals_batch_norm(affine: bool) -> None:
    ours, stock = MomentNorm(4, affine=affine), torch.nn.BatchNorm3d(4, affine=affine)
    if affine:
        torch.nn.init.normal_(ours.weight)
        torch.nn.init.normal_(ours.bias)
    stock.load_state_dict(ours.state_dict())
    for _ in range(3):
        image = (5 * torch.randn(2, 4, 3, 4, 5) + 2).requires_grad_()
        results = [norm(image) for norm in (ours, stock)]
        gradients = [torch.autograd.grad(result.square().sum(), image)[0] for result in results]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(*gradients)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    for key, value in stock.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    torch.testing.assert_close(ours.eval()(image), stock.eval()(image))


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (3, 4, 5, 2), (2, 4, 3, 2, 2)])
def test_any_number_of_axes_is_normalised_per_channel(shape: tuple[int, ...]) -> None:
    output = MomentNorm(4)(3 * torch.randn(shape) + 1).transpose(0, 1).flatten(1)
    torch.testing.assert_close(output.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(output.var(1, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_is_computed_in_float32_under_autocast() -> None:
    image = torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        output = MomentNorm(4)(image.bfloat16())
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, MomentNorm(4)(image.bfloat16().float()))


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected shape"):
        MomentNorm(4)(torch.zeros(2, 3, 4, 4))
