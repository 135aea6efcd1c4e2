"""Numbers as the reports of a study write them."""

import math

from mtmed.metrics.interval import Interval
from mtmed.studies.numbers import interval_text, number_text, p_text


def test_a_number_has_its_decimals_and_on_request_its_sign():
    assert number_text(0.12345, 3) == "0.123"
    assert number_text(12.34, 1, sign=True) == "+12.3"
    assert number_text(-0.5, 1, sign=True) == number_text(-0.5, 1) == "-0.5"
    assert number_text(math.nan, 3) == number_text(math.inf, 3, sign=True) == "-"


def test_a_p_value_has_three_significant_digits():
    assert [p_text(p) for p in (0.03125, 1.0, 0.000012345, math.nan)] == ["0.0312", "1", "1.23e-05", "-"]


def test_an_interval_is_written_where_there_is_one():
    assert interval_text(Interval(0.5, 0.4, 0.6, 7, 3), 3) == "0.500 (0.400 to 0.600)"
    assert interval_text(Interval(0.5, -0.4, 0.6, 7, 3), 1, sign=True) == "+0.5 (-0.4 to +0.6)"
    assert interval_text(Interval(0.5, math.nan, math.nan, 1, 1), 3) == "0.500 (no interval)"
    assert interval_text(Interval(math.nan, math.nan, math.nan, 0, 0), 3) == "-"
