"""Cross-correlation loss against its formula, MONAI's BarlowTwinsLoss, invariances and numerical gradients."""

import numpy as np
import pytest
import torch
from monai.losses import BarlowTwinsLoss

from mtmed.errors import InputError
from mtmed.losses import CrossCorrelationLoss, cross_correlation
from mtmed.losses import correlation as module


def feature_maps(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(shape, generator=generator, dtype=torch.float64)
    second = (
        0.7 * first + 0.5 * first.roll(1, dims=1) + torch.randn(shape, generator=generator, dtype=torch.float64) + 3
    )
    return [first.to(dtype), second.to(dtype)]


def formula(first: torch.Tensor, second: torch.Tensor, weight: float = 0.0051, scaled: bool = False) -> float:
    x, y = (z.double().transpose(0, 1).flatten(1).numpy() for z in (first, second))
    channels = len(x)
    matrix = np.corrcoef(x, y)[:channels, channels:]
    diagonal = np.diag(matrix)
    off_diagonal = (matrix**2).sum() - (diagonal**2).sum()
    return float(((1 - diagonal) ** 2).sum() + weight * off_diagonal / (channels - 1 if scaled else 1))


@pytest.mark.parametrize("shape", [(2, 5, 7, 6, 5), (3, 4, 9, 8), (50, 6)])
def test_loss_is_its_formula(shape: tuple[int, ...]) -> None:
    first, second = feature_maps(shape)
    assert CrossCorrelationLoss()(first, second).item() == pytest.approx(formula(first, second), rel=1e-5)
    scaled = CrossCorrelationLoss(redundancy_weight=0.3, off_diagonal_scale="channels")(first, second)
    assert scaled.item() == pytest.approx(formula(first, second, 0.3, scaled=True), rel=1e-5)
    assert scaled.dtype == torch.float32


def test_matrix_is_the_correlation_of_numpy() -> None:
    first, second = feature_maps((2, 5, 7, 6, 5), torch.float64)
    x, y = (z.flatten(2).transpose(0, 1).flatten(1).numpy() for z in (first, second))
    matrix = cross_correlation(first, second, eps=1e-15)
    np.testing.assert_allclose(matrix.numpy(), np.corrcoef(x, y)[:5, 5:], atol=1e-12)


def test_many_blocks_equal_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (z.requires_grad_() for z in feature_maps((2, 3, 40, 41), torch.float64))
    results = []
    for size in (2**22, 1):
        monkeypatch.setattr(module, "_CPU_BLOCK", size)
        loss = CrossCorrelationLoss()(first, second)
        results.append([loss, *torch.autograd.grad(loss, (first, second))])
    for whole, blocked in zip(*results, strict=True):
        torch.testing.assert_close(whole, blocked, rtol=1e-11, atol=1e-14)


def test_equals_monai_up_to_its_unbiased_deviation() -> None:
    first, second = (z.requires_grad_() for z in feature_maps((2, 6, 5, 6, 7), torch.float64))
    flat = [z.movedim(1, -1).flatten(0, -2) for z in (first, second)]
    voxels = len(flat[0])
    # with the unbiased deviation MONAI's matrix is (n - 1) / n times the correlation
    theirs = BarlowTwinsLoss(lambd=0.0051)
    matrix = cross_correlation(first, second) * (voxels - 1) / voxels
    expected = torch.where(torch.eye(6, dtype=torch.bool), (1 - matrix) ** 2, 0.0051 * matrix**2).sum()
    assert theirs(*flat).item() == pytest.approx(expected.item(), rel=1e-5)
    ours = torch.autograd.grad(CrossCorrelationLoss()(first, second), first)[0]
    stock = torch.autograd.grad(theirs(*flat), first)[0]
    assert ((ours - stock).norm() / ours.norm()).item() < 0.01


def test_gradient_is_the_numerical_gradient() -> None:
    first, second = (z.requires_grad_() for z in feature_maps((2, 3, 4, 3), torch.float64))
    loss = CrossCorrelationLoss(redundancy_weight=0.2)
    assert torch.autograd.gradcheck(loss, (first, second))
    assert torch.autograd.gradcheck(cross_correlation, (first, second))
    assert torch.autograd.gradcheck(lambda z: loss(z, second.detach()), (first,))


def test_gradient_in_float32_is_at_least_as_exact_as_monais() -> None:
    exact = [z.requires_grad_() for z in feature_maps((2, 8, 16, 16, 16), torch.float64)]
    reference = torch.autograd.grad(CrossCorrelationLoss()(*exact), exact)
    single = [z.detach().float().requires_grad_() for z in exact]
    ours = torch.autograd.grad(CrossCorrelationLoss()(*single), single)
    flat = BarlowTwinsLoss(lambd=0.0051)
    exact_stock = torch.autograd.grad(flat(*(z.movedim(1, -1).flatten(0, -2) for z in exact)), exact)
    stock = torch.autograd.grad(flat(*(z.movedim(1, -1).flatten(0, -2) for z in single)), single)
    for index in range(2):
        our_error = (ours[index] - reference[index]).norm() / reference[index].norm()
        stock_error = (stock[index] - exact_stock[index]).norm() / exact_stock[index].norm()
        assert our_error < 2e-6
        assert our_error <= 2 * stock_error


def test_order_of_voxels_does_not_matter() -> None:
    first, second = feature_maps((2, 4, 6, 5, 4))
    order = torch.randperm(120, generator=torch.Generator().manual_seed(1))
    shuffled = [z.flatten(2)[:, :, order].view(z.shape).flip(0) for z in (first, second)]
    torch.testing.assert_close(CrossCorrelationLoss()(*shuffled), CrossCorrelationLoss()(first, second))


def test_scale_and_shift_of_a_channel_do_not_matter() -> None:
    first, second = feature_maps((2, 4, 6, 5, 4))
    scale, shift = torch.tensor([0.5, 3, 20, 7]).view(4, 1, 1, 1), torch.tensor([100.0, -5, 30, 0]).view(4, 1, 1, 1)
    torch.testing.assert_close(
        CrossCorrelationLoss()(first * scale + shift, second), CrossCorrelationLoss()(first, second), rtol=1e-4, atol=0
    )


def test_large_mean_does_not_spoil_the_gradient() -> None:
    exact = [(z + 1000).float().double().requires_grad_() for z in feature_maps((2, 4, 12, 12, 12), torch.float64)]
    reference = torch.autograd.grad(CrossCorrelationLoss()(*exact), exact)
    single = [z.detach().float().requires_grad_() for z in exact]
    ours = torch.autograd.grad(CrossCorrelationLoss()(*single), single)
    for mine, theirs in zip(ours, reference, strict=True):
        assert ((mine - theirs).norm() / theirs.norm()).item() < 1e-4


def test_equal_views_leave_only_redundancy() -> None:
    first, _ = feature_maps((2, 4, 6, 5, 4), torch.float64)
    assert CrossCorrelationLoss(redundancy_weight=0.0)(first, first).item() == pytest.approx(0.0, abs=1e-12)


def test_constant_channel_gives_no_nan_and_no_gradient() -> None:
    first, second = feature_maps((2, 4, 6, 5, 4))
    first[:, 1] = 3.7
    second[:, 2] = 0.0
    first.requires_grad_()
    loss = CrossCorrelationLoss()(first, second)
    loss.backward()
    assert torch.isfinite(loss)
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()
    matrix = cross_correlation(first.detach(), second)
    assert matrix[1].abs().max() < 1e-2
    assert matrix[:, 2].abs().max() == 0


def test_keeps_only_its_inputs_and_small_matrices() -> None:
    first, second = (z.requires_grad_() for z in feature_maps((2, 4, 16, 16, 16)))
    inputs = {first.data_ptr(), second.data_ptr()}
    extra = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in inputs:
            extra.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        CrossCorrelationLoss()(first, second)
    assert extra
    assert max(extra) <= 16


def test_bfloat16_is_computed_in_float32() -> None:
    first, second = (z.bfloat16().requires_grad_() for z in feature_maps((2, 4, 8, 8, 8)))
    with torch.autocast("cpu", torch.bfloat16):
        loss = CrossCorrelationLoss()(first, second)
    loss.backward()
    assert loss.dtype == torch.float32
    assert first.grad is not None
    assert first.grad.dtype == torch.bfloat16
    assert loss.item() == pytest.approx(formula(first.detach(), second.detach()), rel=1e-5)


def test_memory_layout_does_not_matter() -> None:
    first, second = feature_maps((2, 4, 6, 5, 4))
    plain = [z.clone().requires_grad_() for z in (first, second)]
    last = [z.clone(memory_format=torch.channels_last_3d).requires_grad_() for z in (first, second)]
    gradients = []
    for pair in (plain, last):
        gradients.append(torch.autograd.grad(CrossCorrelationLoss()(*pair), pair))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_unusable_options_and_shapes_are_named() -> None:
    with pytest.raises(InputError, match="redundancy_weight"):
        CrossCorrelationLoss(redundancy_weight=-1)
    with pytest.raises(InputError, match="off_diagonal_scale"):
        CrossCorrelationLoss(off_diagonal_scale="voxels")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="same shape"):
        cross_correlation(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))
