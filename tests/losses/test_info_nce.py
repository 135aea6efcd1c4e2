"""InfoNCE across pairs against float64 NumPy, its gradients and what leaves it unchanged."""

import math

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import InfoNCELoss


def _pairs(seed=0, pairs=7, features=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(pairs, features)), rng.normal(size=(pairs, features)), rng.integers(0, 3, pairs)


def _plain(a, b, group, temperature):
    def cosine(x, y):
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    terms = []
    for first, second in ((a, b), (b, a)):
        for i in range(len(a)):
            others = [j for j in range(len(a)) if group[j] == group[i]]
            logits = [cosine(first[i], second[j]) / temperature for j in others]
            terms.append(math.log(sum(map(math.exp, logits))) - cosine(first[i], second[i]) / temperature)
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_numpy_in_float64(seed, temperature):
    a, b, group = _pairs(seed)
    loss = InfoNCELoss(temperature=temperature)
    tensors = (torch.from_numpy(a), torch.from_numpy(b))
    grouped, joint = loss(*tensors, torch.from_numpy(group)), loss(*tensors)
    assert grouped.dtype == torch.float64
    assert float(grouped) == pytest.approx(_plain(a, b, group, temperature), rel=1e-12)
    assert float(joint) == pytest.approx(_plain(a, b, np.zeros(7), temperature), rel=1e-12)
    single = loss(*(tensor.float() for tensor in tensors), torch.from_numpy(group))
    assert float(single) == pytest.approx(float(grouped), rel=1e-4)


def test_a_pair_has_one_positive_and_the_partners_of_the_others_as_negatives():
    """With equal embeddings all of n candidates are alike: log n, where NT-Xent would give log(2n - 1)."""
    same = torch.ones(16, 4)
    assert float(InfoNCELoss()(same, same)) == pytest.approx(math.log(16), rel=1e-5)


def test_gradient_equals_finite_differences():
    a, b, group = (torch.from_numpy(array) for array in _pairs(4, pairs=5))
    assert torch.autograd.gradcheck(
        lambda first, second: InfoNCELoss(temperature=0.5)(first, second, group),
        (a.requires_grad_(), b.requires_grad_()),
    )


def test_length_order_and_exchange_of_partners_change_nothing():
    a, b, group = (torch.from_numpy(array) for array in _pairs(1))
    loss, order = InfoNCELoss(), torch.randperm(7, generator=torch.Generator().manual_seed(0))
    expected = float(loss(a, b, group))
    assert float(loss(3 * a, 0.2 * b, group)) == pytest.approx(expected, rel=1e-12)
    assert float(loss(b, a, group)) == pytest.approx(expected, rel=1e-12)
    assert float(loss(a[order], b[order], group[order])) == pytest.approx(expected, rel=1e-12)
    assert float(loss(a, b, 5 - group)) == pytest.approx(expected, rel=1e-12)


def test_groups_do_not_see_each_other():
    a, b, group = (torch.from_numpy(array) for array in _pairs(2))
    a.requires_grad_()
    kept = group == group[0]
    apart = InfoNCELoss()(a[kept], b[kept])
    (alone,) = torch.autograd.grad(apart, a)
    (beside,) = torch.autograd.grad(InfoNCELoss()(a, b, group), a)
    torch.testing.assert_close(beside[kept] * len(a) / kept.sum(), alone[kept])


def test_a_pair_alone_in_its_group_costs_nothing_and_is_pulled_nowhere():
    a, b, _ = (torch.from_numpy(array) for array in _pairs(3))
    loss = InfoNCELoss()(a.requires_grad_(), b, torch.arange(7))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(a.grad, torch.zeros_like(a))


def test_half_precision_is_computed_in_single_and_low_temperatures_do_not_overflow():
    a, b, group = (torch.from_numpy(array) for array in _pairs(5))
    a, b = a.bfloat16(), b.bfloat16()
    for temperature in (0.1, 1e-4):
        with torch.autocast("cpu", torch.bfloat16):
            loss = InfoNCELoss(temperature=temperature)(a, b, group)
        assert loss.dtype == torch.float32
        exact = InfoNCELoss(temperature=temperature)(a.double(), b.double(), group)
        assert float(loss) == pytest.approx(float(exact), rel=1e-3)


def test_wrong_arguments_are_refused():
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="temperature"):
            InfoNCELoss(temperature=temperature)
    for first, second, groups in (((2, 3), (2, 4), 2), ((2, 3), (3, 3), 2), ((2, 3), (2, 3), 3), ((0, 3), (0, 3), 0)):
        with pytest.raises(ValueError, match="Shapes are"):
            InfoNCELoss()(torch.zeros(first), torch.zeros(second), torch.zeros(groups))
