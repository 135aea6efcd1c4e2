"""A network whose definition is fixed is refused for data of other channels."""

from collections.abc import Sequence

import pytest

from mtmed.bundle import require_channels
from mtmed.errors import InputError
from mtmed.networks import build_network

FILM = {"features": ["slice_position"], "mean": [0.5], "deviation": [0.3], "hidden": 2}
SHAPE = {"_target_": "mtmed.networks.SmallUNet", "in_channels": 3, "out_channels": 2, "base_channels": 2, "depth": 1}


@pytest.mark.parametrize(("film", "features"), [(None, ()), (FILM, ["slice_position"])])
def test_network_of_the_channels_of_the_data_is_accepted(film: dict | None, features: Sequence[str]) -> None:
    require_channels(build_network({**SHAPE, "film": film}), image=3, logits=2, features=features)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"image": 1, "logits": 2},
            "network_def::in_channels: is 3, the data have 1; pass --network_def::in_channels 1, or data for 3",
        ),
        (
            {"image": 3, "logits": 4},
            "network_def::out_channels: is 2, the data have 4; pass --network_def::out_channels 4, or data for 2",
        ),
        (
            {"image": 3, "logits": 2},
            "network_def::film: is told slice_position, the data give none; leave features to the network",
        ),
        (
            {"image": 3, "logits": 2, "features": ["day_number"]},
            "network_def::film: is told slice_position, the data give day_number; leave features to the network",
        ),
    ],
)
def test_network_of_other_channels_is_refused_in_one_line(data: dict, line: str) -> None:
    with pytest.raises(InputError) as caught:
        require_channels(build_network({**SHAPE, "film": FILM}), **data)
    assert str(caught.value) == line
