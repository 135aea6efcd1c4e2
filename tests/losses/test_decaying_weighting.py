"""Weights that fall from epoch to epoch."""

import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import DecayingWeighting

WEIGHTS = {"bce": 0.6, "dice": 0.4, "contrast": 0.9}
LOSSES = {"bce": torch.tensor(2.0), "dice": torch.tensor(3.0), "contrast": torch.tensor(5.0)}


@pytest.mark.parametrize(("step", "epoch"), [(0, 1), (9, 1), (10, 2), (29, 3), (95, 10)])
def test_a_decaying_weight_is_divided_by_the_epoch_counted_from_one(step, epoch):
    weighted = DecayingWeighting(weights=WEIGHTS, decaying=["contrast"], epoch_length=10)(LOSSES, step)
    assert weighted.weights == pytest.approx({"bce": 0.6, "dice": 0.4, "contrast": 0.9 / epoch})
    assert float(weighted.total) == pytest.approx(1.2 + 1.2 + 4.5 / epoch)


def test_a_decaying_loss_may_be_left_out_and_all_may_decay():
    weighting = DecayingWeighting(weights=WEIGHTS, decaying=list(WEIGHTS), epoch_length=1)
    assert weighting({"bce": LOSSES["bce"]}, 3).weights == pytest.approx({"bce": 0.15})


def test_the_gradient_is_that_of_the_weighted_sum():
    loss = torch.tensor(2.0, requires_grad=True)
    DecayingWeighting(weights=WEIGHTS, decaying=["contrast"], epoch_length=5)({"contrast": loss}, 5).total.backward()
    assert float(loss.grad) == pytest.approx(0.45)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"decaying: names 'position', which has no weight \(given: \['bce'"):
        DecayingWeighting(weights=WEIGHTS, decaying=["position"], epoch_length=1)
    with pytest.raises(InputError, match="epoch_length: is 0"):
        DecayingWeighting(weights=WEIGHTS, decaying=[], epoch_length=0)
    with pytest.raises(InputError, match="weights: gives loss 'bce' the weight inf"):
        DecayingWeighting(weights={"bce": float("inf")}, decaying=[], epoch_length=1)
    with pytest.raises(InputError, match="none for loss 'side'"):
        DecayingWeighting(weights=WEIGHTS, decaying=[], epoch_length=1)({"side": torch.tensor(1.0)}, 0)
