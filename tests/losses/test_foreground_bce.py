"""The weighted cross-entropy of two channels against float64 NumPy and torch."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import ForegroundBCELoss


def _case(seed=0, size=(4, 5, 3)):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 2, *size, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, 2, (2, 1, *size), generator=generator)


@pytest.mark.parametrize("size", [(4, 5, 3), (6, 4)], ids=["3D", "2D"])
@pytest.mark.parametrize("weight", [1.0, 0.25, 8.0])
def test_loss_equals_the_formula_of_the_softmax_in_numpy(weight, size):
    logits, labels = _case(size=size)
    powers = np.exp(logits.numpy())
    probability = powers[:, 1] / powers.sum(1)
    foreground = labels.numpy()[:, 0]
    expected = -(weight * foreground * np.log(probability) + (1 - foreground) * np.log(1 - probability)).mean()
    assert float(ForegroundBCELoss(foreground_weight=weight)(logits, labels)) == pytest.approx(expected, rel=1e-12)


def test_loss_equals_torch_with_weighted_positives():
    logits, labels = _case(1)
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(4.0, dtype=torch.float64))
    expected = reference(logits[:, 1] - logits[:, 0], labels[:, 0].double())
    assert float(ForegroundBCELoss(foreground_weight=4.0)(logits, labels)) == pytest.approx(float(expected), rel=1e-12)
    unweighted = torch.nn.functional.cross_entropy(logits, labels[:, 0])
    assert float(ForegroundBCELoss()(logits, labels)) == pytest.approx(float(unweighted), rel=1e-12)


def test_gradient_equals_finite_differences():
    logits, labels = _case(2, size=(2, 3))
    loss = ForegroundBCELoss(foreground_weight=2.0)
    assert torch.autograd.gradcheck(lambda given: loss(given, labels), (logits.requires_grad_(),))


def test_extreme_logits_have_a_finite_loss_and_gradient():
    logits = torch.tensor([[[200.0, -200.0], [-200.0, 200.0]]], requires_grad=True)
    loss = ForegroundBCELoss(foreground_weight=2.0)(logits, torch.tensor([[[1, 0]]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx((2 * 400 + 400) / 2)
    assert torch.isfinite(logits.grad).all()


def test_values_above_one_are_foreground_and_half_precision_is_computed_in_single():
    logits, labels = _case(3)
    loss = ForegroundBCELoss(foreground_weight=2.0)
    expected = float(loss(logits.bfloat16().double(), labels))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits.bfloat16(), (labels * 2).to(torch.uint8))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_weight_is_no_part_of_the_checkpoint():
    assert not ForegroundBCELoss(foreground_weight=3.0).state_dict()


def test_wrong_arguments_are_refused():
    for weight in (0.0, -2.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="foreground_weight"):
            ForegroundBCELoss(foreground_weight=weight)
    logits, labels = _case()
    for given in ((logits[:, :1], labels), (logits, labels[..., :2]), (logits, labels[:, 0])):
        with pytest.raises(ValueError, match="B 2"):
            ForegroundBCELoss()(*given)
