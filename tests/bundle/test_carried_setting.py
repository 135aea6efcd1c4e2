"""Settings in which a training must agree with the file that it starts from."""

import pytest

from mtmed.bundle import require_carried
from mtmed.errors import InputError
from mtmed.networks import build_network, save_encoder

DEFINITION = {"_target_": "mtmed.networks.DenseUNet", "in_channels": 1, "out_channels": 2}


@pytest.fixture
def encoder(tmp_path):
    save_encoder(tmp_path / "encoder.pt", build_network(DEFINITION), {"spacing": [4.0, 4.0, 6.0]})
    return str(tmp_path / "encoder.pt")


def test_the_same_spacing_passes(encoder):
    assert require_carried("spacing", [4, 4, 6], pretrained=encoder) is None


def test_another_spacing_is_refused_with_both_values(encoder):
    with pytest.raises(InputError) as caught:
        require_carried("spacing", [1.0, 1.0, 3.0], pretrained=encoder)
    assert str(caught.value).startswith(f"spacing: is [1.0, 1.0, 3.0], but {encoder} was trained with [4.0, 4.0, 6.0]")


def test_from_scratch_every_spacing_passes():
    assert require_carried("spacing", [1.0, 1.0, 3.0], pretrained=None) is None
