"""Options that cannot be meant together end in one line."""

import pytest

from mtmed.bundle import refuse_combination
from mtmed.errors import InputError


def test_a_combination_that_is_given_is_refused_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        refuse_combination("film", "tells the position", "leave it out", when=True)
    assert str(caught.value) == "film: tells the position; leave it out"


def test_nothing_happens_otherwise() -> None:
    refuse_combination("film", "tells the position", "leave it out", when=False)
