"""Random shares of tasks."""

import numpy as np
import pytest
import torch

from mtmed.errors import InputError
from mtmed.losses import RandomWeighting

WEIGHTS = {"bce": 0.6, "dice": 0.4, "contrast": 0.2, "position": 2.0}
LOSSES = {name: torch.tensor(float(value)) for name, value in zip(WEIGHTS, (2, 3, 5, 7), strict=True)}


def make(seed=0, auxiliary=("contrast", "position")):
    return RandomWeighting(weights=WEIGHTS, auxiliary=auxiliary, seed=seed)


def shares(weighting, step, losses=LOSSES):
    return {name: weight / WEIGHTS[name] for name, weight in weighting(losses, step).weights.items()}


def test_losses_of_the_main_task_share_a_draw_and_the_tasks_shares_add_up_to_one():
    for step in range(20):
        found = shares(make(), step)
        assert found["bce"] == pytest.approx(found["dice"])
        assert found["bce"] + found["contrast"] + found["position"] == pytest.approx(1)
        assert min(found.values()) > 0


def test_total_is_the_sum_with_the_weights_in_force():
    weighted = make()(LOSSES, 4)
    assert float(weighted.total) == pytest.approx(sum(weighted.weights[n] * float(LOSSES[n]) for n in WEIGHTS))


def test_logarithms_of_shares_are_those_of_normal_draws():
    """The difference of two standard normal draws has mean 0 and variance 2, for each pair of tasks."""
    found = [shares(make(seed=3), step) for step in range(4000)]
    logs = np.log([[one["bce"], one["contrast"], one["position"]] for one in found])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        difference = logs[:, first] - logs[:, second]
        assert abs(difference.mean()) < 4 * np.sqrt(2 / 4000)
        assert difference.var() == pytest.approx(2, rel=0.12)
    assert np.exp(logs).mean(0) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_draws_are_a_function_of_seed_and_step_alone():
    one, other = make(seed=1), make(seed=1)
    for step in range(5):
        one(LOSSES, step)
    assert one(LOSSES, 7).weights == other(LOSSES, 7).weights
    assert one(LOSSES, 7).weights != one(LOSSES, 8).weights
    assert one(LOSSES, 7).weights != make(seed=2)(LOSSES, 7).weights


def test_a_task_that_is_left_out_has_no_share():
    found = shares(make(), 0, {name: LOSSES[name] for name in ("bce", "dice", "position")})
    assert found["bce"] + found["position"] == pytest.approx(1)
    assert shares(make(), 0, {"bce": LOSSES["bce"]}) == pytest.approx({"bce": 1.0})


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="auxiliary: names 'side', which has no weight"):
        make(auxiliary=("side",))
    with pytest.raises(InputError, match="weights: gives loss 'bce' the weight nan"):
        RandomWeighting(weights={"bce": float("nan")}, auxiliary=(), seed=0)
    with pytest.raises(InputError, match="none for loss 'side'"):
        make()({"side": torch.tensor(1.0)}, 0)
