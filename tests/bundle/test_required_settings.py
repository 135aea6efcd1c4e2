"""Weights files of another bundle."""

import pytest

from mtmed.bundle import require_settings
from mtmed.errors import InputError


def test_settings_that_say_all_come_back():
    settings = {"organs": ["stomach"], "image_size": [64, 64], "more": 1}
    assert require_settings(settings, ["organs", "image_size"], source="model.pt") is settings


def test_weights_of_another_bundle_are_named_with_what_they_lack():
    with pytest.raises(InputError, match=r"runs/model\.pt: does not say image_size, features, so its network is of"):
        require_settings({"organs": []}, ["organs", "image_size", "features"], source="runs/model.pt")
