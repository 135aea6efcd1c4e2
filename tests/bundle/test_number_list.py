"""Options that are lists of numbers."""

import math

import pytest

from mtmed.bundle import require_numbers
from mtmed.errors import InputError


@pytest.mark.parametrize("values", [[0.6, 0.2], (1, 0)])
def test_as_many_numbers_as_asked_for_pass(values):
    assert require_numbers("dice_weight", values, count=2, least=0) is None


@pytest.mark.parametrize(
    "values", [[0.6], [0.6, 0.4, 0.2], [0.6, -0.1], [0.6, math.nan], [0.6, True], ["0", "1"], "01", 2]
)
def test_other_lists_are_refused_with_what_to_give(values):
    with pytest.raises(InputError, match=r"dice_weight: is .*; give 2 numbers of 0 or more"):
        require_numbers("dice_weight", values, count=2, least=0)


def test_without_a_limit_negative_numbers_pass():
    assert require_numbers("window_size", [-1, -1, 0.5], count=3) is None
    with pytest.raises(InputError, match=r"window_size: is \[-1\]; give 3 numbers$"):
        require_numbers("window_size", [-1], count=3)


@pytest.mark.parametrize("values", [[16.5, 16], [16.0, 16], [16, True]])
def test_where_whole_numbers_are_wanted_fractions_are_refused(values):
    assert require_numbers("image_size", [16, 17], count=2, least=16, whole=True) is None
    with pytest.raises(InputError, match=r"image_size: is .*; give 2 whole numbers of 16 or more"):
        require_numbers("image_size", values, count=2, least=16, whole=True)
