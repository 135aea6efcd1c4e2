"""Options and models of the GI tract bundle that cannot be meant end with one line, before any training."""

from pathlib import Path
from typing import Any

import pytest
from gi_tract_inputs import (
    change_manifest,
    other_network,
    several,
    spoil,
    trained,
)
from gi_tract_refusals import (
    CHECKED,
    BadInput,
    assert_refused,
    assert_refused_on_the_terminal,
)

CONTRAST = {"auxiliary": "contrast"}
FILM = {"film": True}
COMBINATIONS = (
    BadInput(
        "position that is told and asked for",
        (
            "film: tells the network the slice position, which gives away what the auxiliary task is to find out",
            "leave slice_position out of film_features",
        ),
        {**FILM, "auxiliary": "position"},
    ),
    BadInput(
        "position that is told beside a contrast",
        ("film: tells the network the slice position",),
        {**FILM, **CONTRAST},
    ),
    BadInput(
        "foreground of pairs",
        ("foreground_probability: is of slices that are drawn one by one, not of pairs; leave it out",),
        {**CONTRAST, "foreground_probability": 0.5},
    ),
    BadInput(
        "frozen layers that have learnt nothing",
        ("freeze_first: freezes an encoder that has learnt nothing; give --imagenet_weights FILE",),
        {"network": "big_unet", "network_defs#big_unet#freeze_first": True},
        files=CHECKED,
    ),
    BadInput(
        "metadata for a network without FiLM",
        ("film: is not built into deeplab; use --network small_unet or big_unet",),
        {**FILM, "network": "deeplab"},
    ),
    BadInput(
        "augmentation of a contrast that is not there",
        ("augmentation: is contrast, but auxiliary compares no images; use --augmentation all",),
        {"augmentation": "contrast"},
    ),
    BadInput(
        "weighting of nothing",
        ("weighting: has nothing to weigh, since auxiliary is none; leave it out, or choose an auxiliary",),
        {"weighting": "decaying"},
    ),
    BadInput(
        "weights of a ResNet50 for the small network",
        ("imagenet_weights: are those of a ResNet50; use --network big_unet",),
        {"imagenet_weights": "{}/resnet.pth"},
        other_network,
    ),
    BadInput(
        "no such weights",
        ("{}/resnet.pth: no such file; give a file of torchvision's weights",),
        {"network": "big_unet", "imagenet_weights": "{}/resnet.pth", "slice_offsets": [0, 0, 0]},
        files=CHECKED,
    ),
    BadInput(
        "weights of another network",
        ("{}/resnet.pth: only ", " of the encoder's ", "give a file of torchvision's weights for this network"),
        {"network": "big_unet", "imagenet_weights": "{}/resnet.pth", "slice_offsets": [0, 0, 0]},
        other_network,
        files=CHECKED,
    ),
    BadInput(
        "weights that are no weights",
        ("{}/resnet.pth: holds more than tensors and plain values; give a file of torchvision's weights",),
        {"network": "big_unet", "imagenet_weights": "{}/resnet.pth"},
        spoil(lambda f: (f / "resnet.pth").write_text("no weights")),
        files=CHECKED,
    ),
    BadInput(
        "more pairs than a scan has",
        ("pairs: is 4, more pairs of neighbouring slices than these scans give: Toy_GI/", "lower it to 3, lower"),
        {**CONTRAST, "batch_size": 8},
        files=CHECKED,
    ),
    BadInput(
        "batch that is no whole number of groups",
        ("batch_size: is no multiple of the slices of a group, 2 * pairs; give a multiple of it, or other pairs",),
        {**CONTRAST, "pairs": 2, "batch_size": 6},
    ),
    BadInput("half a pair", ("batch_size: is no multiple of the slices of a group",), {**CONTRAST, "batch_size": 3}),
    BadInput("one pair", ("pairs: leaves a slice nothing to be told from; give 2",), {**CONTRAST, "pairs": 1}),
    BadInput(
        "no distance",
        ("minimum_distance: is 0; give a whole number",),
        {**CONTRAST, "minimum_distance": 0},
        files=CHECKED,
    ),
)


def choice(name: str, value: str, choices: str, **more: Any) -> BadInput:
    """A word that an option does not know."""
    return BadInput(f"unknown {name}", (f"{name}: is '{value}'; choose one of {choices}",), {**more, name: value})


WORDS = (
    choice("network", "unet", "small_unet, big_unet, deeplab"),
    choice("auxiliary", "positions", "none, position, contrast, momentum_contrast"),
    choice("weighting", "decay", "constant, decaying, random, gradient_similarity"),
    choice("augmentation", "some", "none, contrast, all"),
    choice("mask_resizing", "cubic", "nearest, linear"),
    choice("normalise_per", "volume", "slice, scan"),
    choice("contrast_group", "day", "scan, patient", **CONTRAST),
    BadInput("unknown split", ("split key: is 'day'",), {"split_key": "day"}, files=frozenset()),
    BadInput("unknown part", ("part: is 'all'; use one of",), {"part": "all"}, trained(), "evaluate"),
)
NUMBERS = (
    BadInput(
        "image size of one number", ("image_size: is [64]; give 2 whole numbers of 16 or more",), {"image_size": [64]}
    ),
    BadInput("image size that is no list", ("image_size: is 64, not a list",), {"image_size": 64}, files=frozenset()),
    BadInput("image of 8 pixels", ("image_size: is [8, 8]; give 2 whole numbers of 16",), {"image_size": [8, 8]}),
    BadInput("image of half pixels", ("image_size: is [16.5, 16.5]",), {"image_size": [16.5, 16.5]}),
    BadInput(
        "negative weight of the second task",
        ("auxiliary_weight: is [-1.0]; give 1 number of 0 or more",),
        {**CONTRAST, "auxiliary_weight": -1.0},
    ),
    BadInput("patience below 0", ("patience: is -1; give a whole number of epochs",), {"patience": -1}, files=CHECKED),
    BadInput("negative temperature", ("temperature: is -0.1",), {**CONTRAST, "temperature": -0.1}, files=CHECKED),
    BadInput("no queue", ("queue: is 0",), {"auxiliary": "momentum_contrast", "queue_size": 0}, files=CHECKED),
    BadInput("no slice as channel", ("slice_offsets: is []; give whole",), {"slice_offsets": []}, files=CHECKED),
    BadInput(
        "half slices as channels", ("slice_offsets: is [0.5]; give whole",), {"slice_offsets": [0.5]}, files=CHECKED
    ),
    BadInput(
        "shares beyond 100",
        ("shares: are [70, 20, 20]; give three percentages",),
        {"shares": [70, 20, 20]},
        files=frozenset(),
    ),
    BadInput("fold that is not there", ("fold: is 9; use a whole number from 0 to 4",), {"fold": 9}, files=frozenset()),
    BadInput(
        "more parts than patients",
        ("shares: 2 patients cannot make 3 parts",),
        {},
        spoil(lambda f: change_manifest(f, lambda c: c.update(training=c["training"][:2]))),
        files=frozenset(),
    ),
    BadInput(
        "misspelt option",
        ("auxilary: unknown option (from the command line); did you mean 'auxiliary'?",),
        {"auxilary": "contrast"},
        files=frozenset(),
    ),
    BadInput(
        "misspelt option of the network",
        ("network_defs::small_unet::base_chanels: unknown option", "base_channels"),
        {"network_defs#small_unet#base_chanels": 8},
        files=frozenset(),
    ),
)
TWO = {"checkpoint": "{}/model.pt", "ensemble_with": ["{}/other.pt"]}
MODELS = (
    BadInput("no checkpoint", ("checkpoint: is not given; pass --checkpoint",), {}, stage="evaluate"),
    BadInput(
        "no such checkpoint",
        ("{}/model.pt: no such file",),
        {"checkpoint": "{}/model.pt"},
        stage="evaluate",
    ),
    BadInput(
        "part without cases",
        ("part: 'test' has no case; give it a share above 0",),
        {"checkpoint": "{}/model.pt", "part": "test", "shares": [70, 30, 0]},
        trained(),
        "evaluate",
    ),
    BadInput(
        "patients that the model was trained on",
        (" cases are of patients that the network was trained on; pass the ", "--allow_seen true"),
        {"checkpoint": "{}/model.pt"},
        trained(seen=7),
        "evaluate",
    ),
    BadInput(
        "patients that a further model of the ensemble was trained on",
        (" cases are of patients that {}/other.pt was trained on; pass the ", "--allow_seen true"),
        TWO,
        several(trained(), trained("other.pt", seen=7)),
        "evaluate",
    ),
    BadInput(
        "model that was trained on a split by day",
        ("split_key: is patient, and the network was trained on a split by patient_day", "--shares", "--allow_seen"),
        {"checkpoint": "{}/model.pt"},
        trained(seen=1, settings={"split_key": "patient_day"}),
        "evaluate",
    ),
    BadInput(
        "checkpoint of another bundle",
        ("{}/model.pt: does not say organs, image_size, normalise_per, ", "pass model.pt of a training run of this"),
        {"checkpoint": "{}/model.pt"},
        trained(keep=["label_names", "modalities"]),
        "evaluate",
    ),
    BadInput(
        "checkpoint of another bundle, inference",
        ("{}/model.pt: does not say organs, image_size, normalise_per, ", "pass model.pt of a training run of this"),
        {"checkpoint": "{}/model.pt"},
        trained(keep=["label_names", "modalities"]),
        "inference",
    ),
    BadInput(
        "ensemble of other organs",
        ("{}/other.pt: was trained with organs ['stomach'], the first model with",),
        TWO,
        several(trained(), trained("other.pt", settings={"organs": ["stomach"]}, out_channels=1)),
        "evaluate",
        CHECKED,
    ),
    BadInput(
        "ensemble of other image sizes",
        ("{}/other.pt: was trained with image_size [32, 32], the first model with [16, 16]; average models that",),
        TWO,
        several(trained(), trained("other.pt", settings={"image_size": [32, 32]})),
        "inference",
    ),
    BadInput(
        "ensemble of one",
        ("checkpoints: is ['{}/model.pt'], an ensemble has two or more models; pass --checkpoints",),
        {"checkpoints": ["{}/model.pt"]},
        trained(),
        "ensemble",
    ),
    BadInput("ensemble of none", ("checkpoints: is [], an ensemble has two",), {}, trained(), "ensemble"),
)
BAD = COMBINATIONS + WORDS + NUMBERS + MODELS


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_options_end_with_one_line_before_any_training(bad: BadInput, tmp_path: Path) -> None:
    assert_refused(bad, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_options_leave_one_line_on_the_terminal(bad: BadInput, tmp_path: Path) -> None:
    assert_refused_on_the_terminal(bad, tmp_path)
