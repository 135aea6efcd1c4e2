"""Options that are words."""

import pytest

from mtmed.bundle import require_choice
from mtmed.errors import InputError


def test_an_allowed_word_passes():
    assert require_choice("variant", "single", ["single", "multi_input"]) is None


def test_another_word_is_refused_with_the_choices():
    with pytest.raises(InputError, match="variant: is 'multi'; choose one of single, multi_input"):
        require_choice("variant", "multi", ["single", "multi_input"])
