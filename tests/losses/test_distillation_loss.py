"""A student's loss against its teachers, next to the formulas in float64."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp, softmax

from mtmed.losses import DistillationLoss


def _logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 3, 4, 3, 5)])
def test_overlapping_organs_give_the_binary_cross_entropy_at_the_temperature(temperature, shape):
    student, teachers = _logits(*shape), [_logits(*shape, seed=seed) for seed in (1, 2, 3)]
    loss = DistillationLoss(temperature=temperature)
    target = torch.stack([loss.probabilities(logits) for logits in teachers]).mean(0)
    p = np.mean([expit(logits.numpy() / temperature) for logits in teachers], axis=0)
    np.testing.assert_allclose(target.numpy(), p, rtol=1e-12)
    z = student.numpy() / temperature
    expected = temperature**2 * np.mean(p * np.logaddexp(0, -z) + (1 - p) * np.logaddexp(0, z))
    assert float(loss(student, target)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(2, 4, 5, 4), (2, 3, 4, 3, 5)])
def test_exclusive_classes_give_the_divergence_at_the_temperature(temperature, shape):
    student, teachers = _logits(*shape), [_logits(*shape, seed=seed) for seed in (1, 2, 3)]
    loss = DistillationLoss(temperature=temperature, activation="softmax")
    target = torch.stack([loss.probabilities(logits) for logits in teachers]).mean(0)
    p = np.mean([softmax(logits.numpy() / temperature, axis=1) for logits in teachers], axis=0)
    np.testing.assert_allclose(target.numpy(), p, rtol=1e-12)
    z = student.numpy() / temperature
    expected = temperature**2 * (p * (np.log(p) - z + logsumexp(z, axis=1, keepdims=True))).sum(1).mean()
    assert float(loss(student, target)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_gradient_is_the_difference_of_probabilities_times_the_temperature(activation):
    loss = DistillationLoss(temperature=2.0, activation=activation)
    student, target = _logits(2, 3, 4, 5).requires_grad_(), loss.probabilities(_logits(2, 3, 4, 5, seed=1))
    loss(student, target).backward()
    terms = student.numel() if activation == "sigmoid" else student.numel() // 3
    expected = 2.0 * (loss.probabilities(student.detach()) - target) / terms
    torch.testing.assert_close(student.grad, expected)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), student)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_it_is_least_where_the_student_equals_the_target(activation):
    loss = DistillationLoss(temperature=1.5, activation=activation)
    teacher = _logits(1, 3, 4, 4)
    student, target = teacher.clone().requires_grad_(), loss.probabilities(teacher)
    least = loss(student, target)
    least.backward()
    assert student.grad.abs().max() < 1e-12
    assert all(loss(teacher + 0.3 * _logits(1, 3, 4, 4, seed=seed), target) > least.detach() for seed in range(1, 6))
    if activation == "softmax":
        assert abs(float(least.detach())) < 1e-12


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_certain_teachers_and_half_precision_give_finite_losses(activation):
    loss = DistillationLoss(activation=activation)
    target = loss.probabilities(torch.tensor([[-200.0, 200.0], [200.0, -200.0]]).view(2, 2, 1))
    assert set(target.unique().tolist()) == {0.0, 1.0}
    student = torch.zeros(2, 2, 1, dtype=torch.bfloat16, requires_grad=True)
    found = loss(student, target)
    found.backward()
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(np.log(2))
    assert torch.isfinite(student.grad).all()


def test_one_organ_by_softmax_of_two_channels_is_the_same_as_by_sigmoid():
    student, teacher = _logits(2, 1, 4, 4), _logits(2, 1, 4, 4, seed=1)
    sigmoid, exclusive = DistillationLoss(), DistillationLoss(activation="softmax")

    def two(logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(logits), logits], 1)

    target = sigmoid.probabilities(teacher)
    entropy = -(target * target.log() + (1 - target) * (1 - target).log()).mean()
    found = exclusive(two(student), exclusive.probabilities(two(teacher)))
    torch.testing.assert_close(found, sigmoid(student, target) - entropy)


def test_wrong_options_and_shapes_are_refused():
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="temperature is"):
            DistillationLoss(temperature=temperature)
    with pytest.raises(ValueError, match="activation is 'relu'"):
        DistillationLoss(activation="relu")
    with pytest.raises(ValueError, match="give logits and target of one shape"):
        DistillationLoss()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3))
