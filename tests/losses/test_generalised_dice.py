"""Generalised Dice and the true positive rate against their formulas in float64 and against MONAI."""

import numpy as np
import pytest
import torch
from monai.losses import GeneralizedDiceLoss
from scipy.special import softmax

from mtmed.losses import GeneralisedDiceLoss, TruePositiveRateLoss


def example(*, shape=(6, 5, 4), classes=3, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *shape, generator=generator)
    labels = torch.randint(0, classes, (batch, 1, *shape), generator=generator)
    return logits, labels


def formula(logits, labels):
    """Equation 1 with the class weights of Sudre et al., sample by sample, all classes present."""
    probabilities = softmax(logits.numpy().astype(np.float64), axis=1)
    losses = []
    for sample, label in zip(probabilities, labels[:, 0].numpy(), strict=True):
        above, below = 0.0, 0.0
        for value, predicted in enumerate(sample):
            reference = (label == value).astype(np.float64)
            weight = 1 / reference.sum() ** 2
            above += weight * (reference * predicted).sum()
            below += weight * (reference + predicted).sum()
        losses.append(1 - 2 * above / below)
    return np.mean(losses)


def test_generalised_dice_is_the_formula():
    logits, labels = example()
    np.testing.assert_allclose(GeneralisedDiceLoss()(logits, labels).item(), formula(logits, labels), rtol=1e-5)


@pytest.mark.parametrize("absent", [False, True])
def test_generalised_dice_is_monais_without_its_smoothing(absent):
    logits, labels = example(shape=(8, 8))
    if absent:
        labels[labels == 2] = 0
    stock = GeneralizedDiceLoss(to_onehot_y=True, softmax=True, smooth_nr=0, smooth_dr=0)
    torch.testing.assert_close(GeneralisedDiceLoss()(logits, labels), stock(logits, labels), rtol=1e-5, atol=1e-6)


def test_a_patch_without_lesion_still_teaches_that_there_is_none():
    logits = torch.zeros(1, 2, 32, 32, 32, requires_grad=True)
    loss = GeneralisedDiceLoss()(logits, torch.zeros(1, 1, 32, 32, 32))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, 1] > 0).all()
    assert (
        GeneralisedDiceLoss()(torch.tensor([50.0, -50.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
        < 1e-6
    )


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_all():
    _, labels = example(classes=2)
    right = 100.0 * (torch.cat([1 - labels, labels], 1) - 0.5)
    assert GeneralisedDiceLoss()(right, labels) < 1e-6
    assert GeneralisedDiceLoss()(-right, labels) > 1 - 1e-6
    assert TruePositiveRateLoss()(right, labels) < 1e-6
    assert TruePositiveRateLoss()(-right, labels) > 1 - 1e-6


def test_shares_of_one_rater_give_the_loss_of_the_labels():
    logits, labels = example()
    shares = torch.nn.functional.one_hot(labels[:, 0], 3).movedim(-1, 1).float()
    for loss in (GeneralisedDiceLoss(), TruePositiveRateLoss()):
        torch.testing.assert_close(loss(logits, shares), loss(logits, labels))


def test_a_single_voxel_of_one_of_two_raters_does_not_get_a_weight_above_one_voxels():
    shares = torch.zeros(1, 2, 4, 4)
    shares[:, 0], shares[0, 1, 0, 0], shares[0, 0, 0, 0] = 1, 0.5, 0.5
    logits = torch.zeros(1, 2, 4, 4)
    background = 1 / 15.5**2
    overlap = background * 15.5 * 0.5 + 0.25
    total = background * (15.5 + 8) + (0.5 + 8)
    assert GeneralisedDiceLoss()(logits, shares).item() == pytest.approx(1 - 2 * overlap / total, rel=1e-5)


def test_true_positive_rate_is_the_share_of_the_lesion_that_is_found():
    logits, labels = example(classes=2)
    probability = softmax(logits.numpy().astype(np.float64), axis=1)[:, 1]
    reference = labels[:, 0].numpy()
    rates = [(p * r).sum() / r.sum() for p, r in zip(probability, reference, strict=True)]
    assert TruePositiveRateLoss()(logits, labels).item() == pytest.approx(1 - np.mean(rates), rel=1e-5)


def test_samples_without_lesion_count_zero_and_stay_in_the_graph():
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    labels = torch.zeros(2, 1, 4, 4)
    loss = TruePositiveRateLoss()(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert (gradient == 0).all()
    labels[0, 0, 0, 0] = 1
    alone = TruePositiveRateLoss()(logits[:1], labels[:1])
    torch.testing.assert_close(TruePositiveRateLoss()(logits, labels), alone / 2)


@pytest.mark.parametrize("loss", [GeneralisedDiceLoss(), TruePositiveRateLoss()])
def test_gradients_are_those_of_finite_differences(loss):
    logits, labels = example(shape=(3, 3), classes=2, batch=1)

    def double(values):
        return loss(values, labels)

    step, values = 1e-2, logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(double(values), values)
    for place in [(0, 0, 0, 0), (0, 1, 2, 1)]:
        moved = torch.zeros_like(logits)
        moved[place] = step
        numeric = (double(logits + moved) - double(logits - moved)) / (2 * step)
        assert gradient[place].item() == pytest.approx(numeric.item(), abs=2e-4)


@pytest.mark.parametrize("loss", [GeneralisedDiceLoss(), TruePositiveRateLoss()])
def test_the_mean_over_two_halves_of_a_batch_is_the_loss_of_the_batch(loss):
    logits, labels = example(batch=4)
    halves = (loss(logits[:2], labels[:2]) + loss(logits[2:], labels[2:])) / 2
    torch.testing.assert_close(halves, loss(logits, labels))


def test_half_precision_logits_of_a_whole_patch_do_not_overflow():
    logits = torch.randn(1, 2, 48, 48, 48, dtype=torch.float16)
    labels = torch.zeros(1, 1, 48, 48, 48)
    labels[..., :3] = 1
    expected = formula(logits.float(), labels)
    assert GeneralisedDiceLoss()(logits, labels).item() == pytest.approx(expected, rel=1e-3)


def test_a_target_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="share of each class"):
        GeneralisedDiceLoss()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4))
