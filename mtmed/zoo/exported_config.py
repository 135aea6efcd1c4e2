"""A config of a bundle's source becomes one of the exported folder."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mtmed.errors import InputError

__all__ = ["RENAMED", "exported_config"]

RENAMED = {
    "finetune.json": "train.json",
    "train.json": "train.json",
    "stage1.json": "train.json",
    "distill.json": "distill.json",
    "inference.json": "inference.json",
    "evaluate.json": "evaluate.json",
    "ensemble.json": "ensemble.json",
    "multi_gpu.json": "multi_gpu_train.json",
}
# knobs of training whose value belongs to the weights; inference names what it takes from the settings
SETTING_KEYS = (
    *("variant", "modalities", "spacing", "window", "patch_size"),
    *("part", "overlap", "label_groups"),
    *("slice_offsets", "image_size", "normalise_per", "features"),
    *("brain_mask", "tissue", "tissue_modality", "tissue_table", "merged_lesions"),
)
_REFERENCE = re.compile(r"@(\w+)")


def exported_config(
    config: dict[str, Any], definition: Mapping[str, Any], settings: Mapping[str, Any], *, culprit: str
) -> dict[str, Any]:
    """A config of the source with the checkpoint's network and settings, and the zoo's places of files.

    A config that rebuilds the network from the weights file (key ``loaded``) gets the network as a literal and MONAI's
    handler that loads its state, as is the custom in the zoo. Of networks to choose from (key ``network_defs``) the
    word for the checkpoint's remains. In a training, entries that served only to find what is now a plain value are
    left out, so that an option without effect is refused as unknown.

    Args:
        config: content of the source's file.
        definition: of the checkpoint's network.
        settings: of the checkpoint.
        culprit: the checkpoint, for messages.

    Raises:
        InputError: if the network is none of those to choose from.
    """
    # an overlay that says itself which checkpoint keeps it
    checkpoint = "$@bundle_root + '/models/model.pt'" if config.get("checkpoint") is None else config["checkpoint"]
    fixed: dict[str, Any] = {
        "bundle_root": ".",
        "network_def": dict(definition),
        "checkpoint": checkpoint,
        # None says that it does not concern this network, as a size of patches one of slices
        **{key: settings[key] for key in SETTING_KEYS if settings.get(key) is not None},
    }
    if "network_defs" in config:
        word = _chosen(config["network_defs"], definition, culprit=culprit)
        fixed |= {"network": word, "network_defs": {word: {}}}
    rebuilds = "loaded" in config
    if rebuilds:
        # features of several networks, and the like, are made of the settings
        fixed = {key: value for key, value in fixed.items() if key not in settings or not _is_made(config.get(key))}
        # whose scans the network saw concerns the lab alone
        fixed["settings"] = {key: value for key, value in settings.items() if key != "trained_on"}
        fixed["weights"] = "$mtmed.zoo.verified_weights(@checkpoint, @bundle_root)"
        fixed["imports"] = [*config.get("imports", []), "$import mtmed.zoo"]
        fixed |= {key: value for key, value in settings.items() if config.get(key) == f"$@settings['{key}']"}
        # as an expression: a dictionary with _target_ would be built
        literal = {"$mtmed.networks.network_definition(@network_def)": f"${dict(definition)!r}"}
        network = config.get("evaluator", {}).get("network", "@network")
        loader = {"_target_": "CheckpointLoader", "load_path": "@weights", "load_dict": {"model": network}}
        fixed["handlers"] = [loader, *_moved(_replaced(config.get("handlers", []), literal))]
        config = _replaced({key: value for key, value in config.items() if key != "loaded"}, literal)
    exported = {key: fixed[key] if key in fixed else _moved(value) for key, value in config.items()}
    if rebuilds:
        return exported
    return _without_left_over(exported, replaced=[value for key, value in config.items() if key in fixed])


def _is_made(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("$")


def _chosen(choices: Mapping[str, Any], definition: Mapping[str, Any], *, culprit: str) -> str:
    """The word for a network, by its class."""
    for word, choice in choices.items():
        if choice["_target_"] == definition["_target_"]:
            return word
    problem = f"holds a {definition['_target_']}, the bundle trains {', '.join(choices)}"
    raise InputError(culprit, problem, "pass model.pt of a run of this bundle")


def _without_left_over(config: dict[str, Any], *, replaced: Any) -> dict[str, Any]:
    """The config without entries on top that only `replaced` values referred to, directly or through each other."""
    candidates = set(_references(replaced))
    while left_over := (candidates & set(config)) - set(_references(list(config.values()))):
        candidates |= set(_references([config[key] for key in left_over]))
        config = {key: value for key, value in config.items() if key not in left_over}
    return config


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _replaced(value: Any, literal: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, literal) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, literal) for item in value]
    return literal.get(value, value) if isinstance(value, str) else value


def _moved(value: Any) -> Any:
    """The value with the names that config files have after the export."""
    if isinstance(value, dict):
        return {key: _moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item) for item in value]
    if isinstance(value, str):
        return re.sub(
            r"(@bundle_root\}?(?: \+ ['\"])?/)(\w+\.json)",
            lambda found: f"{found[1]}configs/{RENAMED.get(found[2], found[2])}",
            value,
        )
    return value
