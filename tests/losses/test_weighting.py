"""Weights of named losses, constant and moving."""

import logging

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import ConstantWeighting, LinearWeighting

START, END = {"bce": 0.6, "dice": 0.4, "reconstruction": 0.1}, {"bce": 0.2, "dice": 0.8, "reconstruction": 0.1}
LOSSES = {"bce": torch.tensor(2.0), "dice": torch.tensor(3.0), "reconstruction": torch.tensor(5.0)}


@pytest.mark.parametrize(
    ("step", "bce", "dice"), [(0, 0.6, 0.4), (25, 0.5, 0.5), (50, 0.4, 0.6), (100, 0.2, 0.8), (170, 0.2, 0.8)]
)
def test_weights_move_linearly_and_stay_at_the_end(step, bce, dice):
    weighted = LinearWeighting(start=START, end=END, steps=101)(LOSSES, step)
    assert weighted.weights == pytest.approx({"bce": bce, "dice": dice, "reconstruction": 0.1})
    assert float(weighted.total) == pytest.approx(2 * bce + 3 * dice + 0.5)


def test_weights_of_all_steps_equal_an_even_grid_and_do_not_depend_on_what_came_before():
    weighting = LinearWeighting(start=START, end=END, steps=7)
    found = [weighting(LOSSES, step).weights["bce"] for step in range(7)]
    assert found == pytest.approx(np.linspace(0.6, 0.2, 7))
    resumed = LinearWeighting(start=START, end=END, steps=7)
    assert [resumed(LOSSES, step).weights["bce"] for step in range(3, 7)] == found[3:]
    assert (found[0], found[-1]) == (0.6, 0.2)


def test_a_run_that_goes_on_with_another_length_says_so(caplog):
    state = LinearWeighting(start=START, end=END, steps=7).state_dict()
    with caplog.at_level(logging.INFO, logger="mtmed"):
        LinearWeighting(start=START, end=END, steps=7).load_state_dict(state)
        assert not caplog.messages
        longer = LinearWeighting(start=START, end=END, steps=13)
        longer.load_state_dict(state)
    assert longer(LOSSES, 6).weights["bce"] == pytest.approx(0.4)
    assert ["now move over 13 steps, before over 7" in message for message in caplog.messages] == [True]


def test_a_single_step_has_the_weights_of_the_start():
    assert LinearWeighting(start=START, end=END, steps=1)(LOSSES, 0).weights == START


def test_equal_ends_are_a_constant_weighting_with_its_gradient():
    losses = {"bce": torch.tensor(2.0, requires_grad=True), "dice": torch.tensor(3.0, requires_grad=True)}
    moving, constant = LinearWeighting(start=START, end=START, steps=9), ConstantWeighting(weights=START)
    assert torch.equal(moving(losses, 0).total, constant(losses, 0).total)
    moving(losses, 0).total.backward()
    assert float(losses["bce"].grad) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "weighting", [ConstantWeighting(weights=START), LinearWeighting(start=START, end=END, steps=2)]
)
def test_a_weight_without_its_loss_is_not_used_and_a_loss_without_its_weight_is_named(weighting):
    assert set(weighting({"dice": torch.tensor(1.0)}, 0).weights) == {"dice"}
    with pytest.raises(InputError, match=r"none for loss 'side' \(given: \['bce', 'dice', 'reconstruction'\]\)"):
        weighting({"dice": torch.tensor(1.0), "side": torch.tensor(1.0)}, 0)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"start and end: .*'dice' a weight in one of the two only"):
        LinearWeighting(start={"bce": 1.0, "dice": 1.0}, end={"bce": 1.0}, steps=2)
    with pytest.raises(InputError, match="end: gives loss 'bce' the weight nan"):
        LinearWeighting(start={"bce": 1.0}, end={"bce": float("nan")}, steps=2)
    for steps in (0, -1):
        with pytest.raises(InputError, match="steps"):
            LinearWeighting(start=START, end=END, steps=steps)
