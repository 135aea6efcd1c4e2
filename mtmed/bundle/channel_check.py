"""The network of a run against the images and labels it is given."""

from collections.abc import Sequence
from typing import Any

from mtmed.errors import InputError

__all__ = ["require_channels"]


def require_channels(
    network: Any, *, image: int, logits: int, features: Sequence[str] = (), identifier: str = "network_def"
) -> None:
    """Refuse a network with other channels than the data have.

    It can only differ where its definition does not follow from the data, as in an exported bundle.

    Args:
        network: a network of mtmed.
        image: channels of the image, without planes of a condition.
        logits: channels that the labels ask for.
        features: names of the numbers of its condition, in order.
        identifier: id of its definition in the config.

    Raises:
        InputError: naming what differs.
    """
    definition: dict[str, Any] = network.definition
    for key, needed in (("in_channels", image), ("out_channels", logits)):
        if definition[key] != needed:
            remedy = f"pass --{identifier}::{key} {needed}, or data for {definition[key]}"
            raise InputError(f"{identifier}::{key}", f"is {definition[key]}, the data have {needed}", remedy)
    told = list(getattr(network, "condition_features", ()))
    if told != list(features):
        problem = f"is told {', '.join(told) or 'no features'}, the data give {', '.join(features) or 'none'}"
        raise InputError(f"{identifier}::film", problem, "leave features to the network")
