"""Configs of an exported folder speak of the checkpoint's network alone, and have no option without effect."""

from typing import Any

import pytest

from mtmed.errors import InputError
from mtmed.zoo.channels import channel_counts, channel_names
from mtmed.zoo.exported_config import exported_config

DEFINITION = {
    "_target_": "mtmed.networks.SmallUNet",
    "in_channels": 2,
    "out_channels": 1,
    "film": {"features": ["day"]},
}
SETTINGS = {
    "label_names": {"0": "background", "1": "stomach"},
    "organs": ["stomach"],
    "modalities": ["MR", "PD"],
    "slice_offsets": [0],
    "features": ["day"],
    "trained_on": ["digest"],
}
TRAINING: dict[str, Any] = {
    "network": "big_unet",
    "film": False,
    "film_features": ["slice_position"],
    "slice_offsets": [0, 0, 0],
    "statistics": "$somewhere.statistics(@film_features, seed=@seed)",
    "seed": 0,
    "network_defs": {
        "small_unet": {"_target_": "mtmed.networks.SmallUNet", "in_channels": "$1", "film": "@film_def"},
        "big_unet": {"_target_": "mtmed.networks.BigUNet", "film": "@film_def"},
    },
    "film_def": "$dict(features=@film_features, mean=@statistics) if @film else None",
    "network_def": "$mtmed.bundle.literal('network_defs::' + @network)",
    "segmenter": "$mtmed.bundle.network('network_def')",
    "features": "$list(@film_features) if @film else []",
    "run": ["$require_choice(@network)", "$train(@segmenter, @seed, @features, @slice_offsets)"],
}


def export(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return exported_config(config, {**DEFINITION, **changes}, SETTINGS, culprit="model.pt")


def test_of_the_networks_to_choose_from_the_one_of_the_weights_remains() -> None:
    config = export(TRAINING)
    assert config["network"] == "small_unet"
    assert config["network_defs"] == {"small_unet": {}}
    assert config["network_def"] == DEFINITION


def test_what_served_only_to_find_the_network_is_left_out() -> None:
    """``film_def``, the numbers it is made of and their own sources go; ``seed`` is used elsewhere too."""
    left = TRAINING.keys() - export(TRAINING).keys()
    assert left == {"film", "film_features", "film_def", "statistics"}


def test_settings_of_the_weights_replace_what_the_training_would_make() -> None:
    config = export(TRAINING)
    assert (config["slice_offsets"], config["features"]) == ([0], ["day"])


def test_network_that_the_bundle_does_not_train_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.pt: holds a a\.UNETR, the bundle trains small_unet, big_unet; pass"):
        export(TRAINING, _target_="a.UNETR")


def test_inference_keeps_what_it_makes_of_the_settings_and_of_others() -> None:
    made = "$joint(@settings['features'], @members)"
    inference = {"loaded": "$load()", "slice_offsets": "$@settings['slice_offsets']", "features": made, "settings": ""}
    config = export(inference)
    assert "loaded" not in config
    assert (config["slice_offsets"], config["features"]) == ([0], made)
    assert config["settings"] == {key: value for key, value in SETTINGS.items() if key != "trained_on"}


def test_overlay_that_names_the_checkpoint_keeps_it() -> None:
    overlay = {"checkpoints": [], "checkpoint": "$first(@checkpoints)"}
    assert export(overlay) == overlay
    assert export({"checkpoint": None}) == {"checkpoint": "$@bundle_root + '/models/model.pt'"}


def test_planes_of_a_condition_count_as_channels_of_the_image() -> None:
    assert channel_counts(DEFINITION) == {"image": 3, "pred": 1}
    assert channel_counts({**DEFINITION, "film": None}) == {"image": 2, "pred": 1}
    assert channel_counts({"_target_": "monai.networks.nets.UNet", "out_channels": "$1"}) == {
        "image": None,
        "pred": None,
    }


def test_channels_are_named_slice_by_slice_and_features_follow() -> None:
    names = channel_names({**SETTINGS, "slice_offsets": [-1, 0]})
    assert names["image"] == ["MR, slice -1", "PD, slice -1", "MR", "PD", "day"]
    assert names["pred"] == ["stomach"]


def test_channels_without_organs_are_those_of_the_labels_in_order_of_value() -> None:
    labels = {"10": "tumour", "0": "background", "2": "kidney"}
    names = channel_names({"label_names": labels, "modalities": ["CT"]})
    assert names == {"image": ["CT"], "pred": ["background", "kidney", "tumour"]}


@pytest.mark.parametrize("name", ["@network", "@segmenter"])
def test_weights_are_loaded_into_the_network_that_is_run(name: str) -> None:
    config = export({"loaded": "$load()", "handlers": [], "evaluator": {"network": name}})
    assert config["handlers"][0]["load_dict"] == {"model": name}
