"""The network of a run: from its definition, or from the file that it continues."""

import logging
from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from mtmed.bundle.active import command_line, literal
from mtmed.errors import InputError
from mtmed.networks import build_network, load_weights, transfer_encoder, transfer_shared
from mtmed.networks.shared_weights import SHARED

__all__ = ["network"]

logger = logging.getLogger(__name__)


def _asked_for(identifier: str) -> set[str]:
    """Arguments of the network that the command line or an overlay sets."""
    given = command_line()
    if given is None:
        return set()
    names: set[str] = set()
    for asked in (given.overrides, *map(ConfigParser.load_config_file, given.config_files[1:])):
        for key, value in asked.items():
            whole, _, argument = key.lstrip("+").replace("#", "::").partition("::")
            if whole == identifier:
                names |= {argument} if argument else set(value)
    return names


def network(
    identifier: str = "network_def", *, pretrained: str | None = None, start: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build the network of a run.

    Without ``pretrained`` it is the config's definition. With it the definition is the one in the file, so that scales
    never mix; only the number of classes is the run's own; and all of the file's encoder must arrive. Of a file that
    `mtmed.networks.save_shared` wrote, the decoder's trained tensors arrive too.

    Args:
        identifier: id of the definition in the running config.
        pretrained: weights file of a pre-training run, or None to train from scratch.
        start: arguments beside the definition that say which weights a new network starts from (its class's
            ``start_arguments``); those that are None are left out.

    Raises:
        InputError: if the file's network is not the one that the command line or an overlay asks for, takes another
            number of channels, or its encoder does not arrive whole.
    """
    definition = literal(identifier)
    if pretrained is None:
        logger.info("Network: %s from scratch", definition["_target_"])
        chosen = {key: value for key, value in (start or {}).items() if value is not None}
        return build_network({**definition, **chosen}, source=identifier)
    content = load_weights(pretrained)
    carried: Mapping[str, Any] = content["network_def"]
    binding = {"in_channels", "img_size"} | _asked_for(identifier) - {"out_channels"}
    for key in sorted(binding & set(definition)):
        if definition[key] != carried.get(key):
            raise InputError(
                f"{identifier}::{key}",
                f"is {definition[key]}, but {pretrained} was trained with {carried.get(key)}",
                "pre-train at the same scale, or leave the network to the checkpoint",
            )
    own = {**carried, "out_channels": definition["out_channels"]}
    built = build_network(own, source=pretrained, from_file=True)
    transfer = transfer_shared if content.get("kind") == SHARED else transfer_encoder
    report = transfer(built, pretrained)
    logger.info("Network: %s from %s. %s", carried["_target_"], pretrained, report)
    return built
