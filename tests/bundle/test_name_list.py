"""Options that are lists of names."""

import pytest

from mtmed.bundle import require_names
from mtmed.errors import InputError


@pytest.mark.parametrize("values", [["slice_position"], ("day_number", "pixel_width")])
def test_names_come_back_as_a_list(values):
    assert require_names("film_features", values) == list(values)


@pytest.mark.parametrize("values", [[], "slice_position", None, [1], [""], {"slice_position": 1}])
def test_what_is_no_list_of_names_is_refused(values):
    with pytest.raises(InputError, match=r"film_features: is .*; give a list of names"):
        require_names("film_features", values)


def test_a_name_that_stands_twice_is_named():
    with pytest.raises(InputError, match="film_features: has 'day_number' twice; name each once"):
        require_names("film_features", ["day_number", "pixel_width", "day_number"])
