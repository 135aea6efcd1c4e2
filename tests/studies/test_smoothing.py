"""Smoothing of losses and validation Dice."""

import numpy as np
import pytest

from mtmed.studies.smoothing import arrival, dice_window, exponential_moving_average, moving_average


def test_each_value_is_the_mean_of_the_last_ones_up_to_it():
    values = np.random.default_rng(0).normal(size=37)
    expected = [np.mean(values[max(0, index - 4) : index + 1]) for index in range(37)]
    assert moving_average(values, 5) == pytest.approx(np.array(expected))
    assert moving_average(values, 1).tolist() == values.tolist()
    assert moving_average(values[:3], 10) == pytest.approx([values[0], values[:2].mean(), values[:3].mean()])
    assert moving_average(np.array([]), 3).size == 0
    with pytest.raises(ValueError, match="window is 0"):
        moving_average(values, 0)


def test_the_window_is_a_twentieth_of_the_longest_run():
    assert dice_window([100, 200, 7]) == 10
    assert dice_window([39]) == 1
    assert dice_window([]) == 1


def test_the_exponential_average_is_the_weighted_mean_of_all_values_up_to_it():
    values = np.random.default_rng(0).normal(size=200)
    weight = 2 / (200 // 50 + 1)
    averages = exponential_moving_average(values)
    for index in (0, 1, 7, 199):
        weights = (1 - weight) ** np.arange(index, -1, -1)
        assert averages[index] == pytest.approx((weights * values[: index + 1]).sum() / weights.sum())
    assert exponential_moving_average(np.full(300, 0.7)) == pytest.approx(np.full(300, 0.7))
    assert exponential_moving_average(values[:99]).tolist() == pytest.approx(values[:99].tolist())
    assert exponential_moving_average(values[:100]).tolist() != pytest.approx(values[:100].tolist())
    assert exponential_moving_average(np.array([])).size == 0


def test_a_curve_arrives_where_it_first_is_at_the_target_rounding_aside():
    assert arrival(np.array([0.1, 0.3, 0.2, 0.3]), 0.3) == 1
    assert arrival(moving_average(np.full(50, 0.7), 3), float(np.mean([0.7, 0.7, 0.7]))) == 0
    assert arrival(np.array([0.1, 0.2]), 0.3) is None
    assert arrival(np.array([0.1, 0.2]), float("nan")) is None
