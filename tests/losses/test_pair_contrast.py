"""The contrastive loss of pairs against float64 NumPy, and its gradients."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import PairContrastiveLoss, pair_distance


def _pairs(seed=0, batch=9, features=6, scale=0.3):
    rng = np.random.default_rng(seed)
    a, b = (scale * rng.normal(size=(batch, features)) for _ in range(2))
    return a, b, rng.integers(0, 2, batch)


def _plain(a, b, same, margin):
    total = 0.0
    for first, second, kind in zip(a, b, same, strict=True):
        distance = np.sqrt(((first - second) ** 2).sum())
        total += distance**2 if kind else max(0.0, margin - distance) ** 2
    return total / len(a)


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_numpy_in_float64(seed, margin):
    a, b, same = _pairs(seed)
    loss = PairContrastiveLoss(margin=margin)
    exact = loss(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(same))
    assert exact.dtype == torch.float64
    assert float(exact) == pytest.approx(_plain(a, b, same, margin), rel=1e-12)
    single = loss(torch.from_numpy(a).float(), torch.from_numpy(b).float(), torch.from_numpy(same) == 1)
    assert float(single) == pytest.approx(float(exact), rel=1e-5)


def test_distance_is_the_norm_and_not_its_square():
    a, b = torch.zeros(2, 2), torch.tensor([[0.3, 0.4], [3.0, 4.0]])
    assert pair_distance(a, b).tolist() == pytest.approx([0.5, 5.0])
    loss = PairContrastiveLoss(margin=1.0)
    assert float(loss(a[:1], b[:1], torch.tensor([False]))) == pytest.approx(0.25)  # with the square it were 0.5625
    assert float(loss(a[1:], b[1:], torch.tensor([True]))) == pytest.approx(25.0)


def test_gradient_equals_finite_differences():
    a, b, same = (torch.from_numpy(array) for array in _pairs(4, batch=5))
    assert torch.autograd.gradcheck(
        lambda first, second: PairContrastiveLoss()(first, second, same), (a.requires_grad_(), b.requires_grad_())
    )


def test_gradient_is_finite_where_both_embeddings_agree():
    a = torch.ones(2, 3, requires_grad=True)
    loss = PairContrastiveLoss(margin=2.0)(a, a.detach().clone(), torch.tensor([True, False]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2.0)
    assert torch.equal(a.grad, torch.zeros(2, 3))


def test_pairs_of_opposite_sides_beyond_the_margin_cost_nothing_and_pull_nothing():
    a = torch.tensor([[0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    b = torch.tensor([[1.5, 0.0], [0.5, 0.0]])
    loss = PairContrastiveLoss()(a, b, torch.tensor([False, False]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.25 / 2)
    assert torch.equal(a.grad[0], torch.zeros(2))
    assert a.grad[1].tolist() == pytest.approx([0.5, 0.0])  # a step against it moves away from b


def test_order_and_exchange_of_the_partners_change_nothing():
    a, b, same = (torch.from_numpy(array) for array in _pairs(1))
    loss, order = PairContrastiveLoss(), torch.randperm(9, generator=torch.Generator().manual_seed(0))
    expected = float(loss(a, b, same))
    assert float(loss(b, a, same)) == pytest.approx(expected, rel=1e-12)
    assert float(loss(a[order], b[order], same[order])) == pytest.approx(expected, rel=1e-12)


def test_half_precision_is_computed_in_single():
    a, b, same = (torch.from_numpy(array) for array in _pairs(2))
    a, b = a.bfloat16(), b.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = PairContrastiveLoss()(a, b, same)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(PairContrastiveLoss()(a.double(), b.double(), same)), rel=1e-5)


def test_wrong_arguments_are_refused():
    for margin in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="margin"):
            PairContrastiveLoss(margin=margin)
    loss, flags = PairContrastiveLoss(), torch.ones(2)
    shapes = [((2, 3), (2, 4)), ((3, 3), (3, 3)), ((2, 3, 1), (2, 3, 1))]
    for first, second in shapes:
        with pytest.raises(ValueError, match="Shapes are"):
            loss(torch.zeros(first), torch.zeros(second), flags)
    with pytest.raises(ValueError, match="B >= 1"):
        loss(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0))
