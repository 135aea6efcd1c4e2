"""VICReg's loss against NumPy, its limits and its gradient."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import VICRegLoss


def reference(a, b):
    """The three terms in NumPy."""
    invariance = np.mean((a - b) ** 2)
    variance = covariance = 0.0
    for one in (a, b):
        matrix = np.cov(one, rowvar=False)
        variance += np.maximum(0, 1 - np.sqrt(np.diag(matrix) + 1e-4)).mean() / 2
        covariance += (matrix**2).sum() / one.shape[1] - (np.diag(matrix) ** 2).sum() / one.shape[1]
    return invariance, variance, covariance


def make_pair(count=6, features=4, scale=0.5):
    generator = torch.Generator().manual_seed(0)
    return tuple(scale * torch.randn(count, features, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_terms_equal_numpy_in_double_precision(scale):
    a, b = make_pair(scale=scale)
    terms = VICRegLoss().terms(a, b)
    np.testing.assert_allclose([float(term) for term in terms], reference(a.numpy(), b.numpy()), rtol=1e-12)
    invariance, variance, covariance = terms
    plain = VICRegLoss(weights=(25, 25, 1), normalised=False)(a, b)
    torch.testing.assert_close(plain, 25 * invariance + 25 * variance + covariance)
    torch.testing.assert_close(VICRegLoss()(a, b), plain / 51)
    torch.testing.assert_close(VICRegLoss(weights=(0, 0, 3))(a, b), covariance)


def test_collapsed_embeddings_have_the_variance_of_the_hinge_and_no_other_term():
    same = torch.ones(5, 3, dtype=torch.float64)
    terms = VICRegLoss().terms(same, same)
    assert [float(term) for term in terms] == pytest.approx([0.0, 1 - 0.01, 0.0])


def test_a_shift_of_both_and_the_order_of_views_and_pairs_change_nothing():
    a, b = make_pair()
    loss = VICRegLoss()
    expected = loss(a, b)
    torch.testing.assert_close(loss(a + 3, b + 3), expected)
    torch.testing.assert_close(loss(b, a), expected)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(loss(a[order], b[order]), expected)


def test_the_gradient_is_that_of_differences_and_the_loss_falls_along_it():
    a, b = (part.requires_grad_() for part in make_pair())
    assert torch.autograd.gradcheck(VICRegLoss(), (a, b))
    optimizer = torch.optim.SGD([a, b], lr=2.0)
    values = []
    for _ in range(200):
        loss = VICRegLoss()(a, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.05 * values[0]


def test_half_precision_is_computed_in_single():
    a, b = (part.bfloat16() for part in make_pair())
    with torch.autocast("cpu", torch.bfloat16):
        found = VICRegLoss()(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, VICRegLoss()(a.float(), b.float()))


def test_wrong_weights_shapes_and_a_batch_of_one_are_refused():
    for weights in ((1, 1), (1, -1, 1), (0, 0, 0), (1, float("inf"), 1), (1, float("nan"), 1)):
        with pytest.raises(InputError, match="weights: are"):
            VICRegLoss(weights=weights)
    with pytest.raises(ValueError, match="Shapes"):
        VICRegLoss()(torch.rand(3, 2), torch.rand(2, 2))
    with pytest.raises(InputError, match="batch_size: is 1"):
        VICRegLoss()(torch.rand(1, 2), torch.rand(1, 2))
