"""What a user can get wrong about scans of slices ends with one line and the remedy, before any network is trained."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from gi_tract_inputs import (
    Prepare,
    change_manifest,
    change_table,
    keep_slices,
    of_mask,
    options,
    other_network,
    repaint,
    scans,
    several,
    slices,
    spoil,
    table,
    trained,
    with_name,
)
from gi_tract_runs import GI_TRACT, run_gi_tract

from mtmed.bundle.messages import mendable

RUN = frozenset({"config.json", "log.txt"})
CHECKED = RUN | {"data_check.json"}


def nothing(folder: Path) -> None:
    """Leave a cohort as it is."""


GOOD = spoil(nothing)


@dataclass(frozen=True)
class BadInput:
    """What is done to a good run, and what the last line must say; ``{}`` stands for the folder."""

    name: str
    said: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    prepare: Prepare = field(default=GOOD)
    stage: str = "train"
    files: frozenset[str] = field(default=RUN)


CONTRAST = {"auxiliary": "contrast"}
FILM = {"film": True}
TABLES = (
    BadInput(
        "row without image",
        ("{}/cohort/train.csv: has rows for case101_day5 without an image of 1 of its ", "_slice_0099", "add the images"),
        {},
        spoil(
            lambda f: change_table(f, lambda rows: [*rows, *({**row, "id": "case101_day5_slice_0099"} for row in rows[:3])])
        ),
    ),
    BadInput(
        "image without row",
        ("{}/cohort/train.csv: has no row for case101_day5_slice_0003, whose image is in", "rows of an empty mask"),
        {},
        spoil(lambda f: change_table(f, lambda rows: [r for r in rows if r["id"] != "case101_day5_slice_0003"])),
    ),
    BadInput(
        "scan without rows",
        ("{}/cohort/train.csv: has no row for the scan case101_day5", "or leave the scan out"),
        {},
        spoil(lambda f: change_table(f, lambda rows: [r for r in rows if not r["id"].startswith("case101_day5_")])),
    ),
    BadInput(
        "slice without one of its rows",
        ("{}/cohort/train.csv: has no row for case101_day5_slice_0001 and large_bowel", "of an absent organ is empty"),
        {},
        spoil(lambda f: change_table(f, lambda rows: rows[1:])),
    ),
    BadInput(
        "row that stands twice",
        ("{}/cohort/train.csv: has two rows for case101_day5_slice_0001 and large_bowel; leave one",),
        {},
        spoil(lambda f: change_table(f, lambda rows: [rows[0], *rows])),
    ),
    BadInput(
        "runs outside the image",
        ("{}/cohort/train.csv: case101_day5_slice_0001, large_bowel: run lengths have a run from pixel 470 to 489",),
        {},
        of_mask("470 20"),
    ),
    BadInput(
        "odd number of fields",
        ("case101_day5_slice_0001, large_bowel: run lengths have 3 fields, an odd number; write a start and a length",),
        {},
        of_mask("1 2 9"),
    ),
    BadInput(
        "runs that overlap",
        ("case101_day5_slice_0001, large_bowel: run lengths ", "write each pixel of a mask once"),
        {},
        of_mask("10 5 12 4"),
    ),
    BadInput("runs from 0", ("run lengths ", "starts and lengths count from 1"), {}, of_mask("0 5")),
    BadInput("runs in words", ("run lengths have the field 'ten'; write whole numbers",), {}, of_mask("ten 5")),
    BadInput(
        "no table",
        ("{}/cohort/train.csv: no such file",),
        {},
        spoil(lambda f: table(f).unlink()),
    ),
    BadInput(
        "table of other columns",
        ("{}/cohort/train.csv: has the columns id, organ, segmentation, expected id, class and segmentation",),
        {},
        spoil(lambda f: table(f).write_text(table(f).read_text().replace("id,class,", "id,organ,", 1))),
    ),
    BadInput(
        "class that the manifest has and the table has not",
        ("{}/cohort/train.csv: has masks of large_bowel, stomach, the labels of ", "write \"labels\": "),
        {},
        spoil(lambda f: change_table(f, lambda rows: [row for row in rows if row["class"] != "small_bowel"])),
    ),
    BadInput(
        "manifest that does not say that masks may overlap",
        ("labels: ",),
        {},
        spoil(lambda f: change_manifest(f, lambda content: content.pop("overlapping"))),
    ),
)
SLICES = (
    BadInput(
        "name of another size",
        (" is 24x20 pixels, its name says 25x20; correct the name, or export the slice again",),
        {},
        spoil(lambda f: with_name(slices(f)[2], width=25)),
    ),
    BadInput(
        "spacing that differs within a scan",
        ("has pixels of 3.6 x 3.5 mm, the first slice of its scan 3.5 x 3.5 mm; correct the names",),
        {},
        spoil(lambda f: with_name(slices(f)[2], spacing="3.60")),
    ),
    BadInput(
        "sizes that differ within a scan",
        ("is 23x20 pixels, the first slice of its scan 24x20",),
        {},
        spoil(lambda f: repaint(with_name(slices(f)[2], width=23), lambda pixels: pixels[:, :23])),
    ),
    BadInput(
        "damaged slice",
        ("slice_0003", "ends early; copy it again"),
        {},
        spoil(lambda f: slices(f)[2].write_bytes(slices(f)[2].read_bytes()[:-40])),
    ),
    BadInput(
        "folder without slices",
        ("{}/cohort/train/case101/case101_day5/scans: is a folder without slices named as",),
        {},
        spoil(lambda f: [path.unlink() for path in slices(f)]),
    ),
    BadInput(
        "number that stands twice",
        ("{}/cohort/train/case101/case101_day5/scans: has 2 slices of the number 3; leave one of them",),
        {},
        spoil(lambda f: with_name(slices(f)[3].rename(slices(f)[3].with_name(slices(f)[2].name.replace("_0003", "_3"))))),
    ),
    BadInput(
        "one slice where contrast needs pairs",
        ("pairs: is ", "more pairs of neighbouring slices than these scans give: ", "case101_day5 (0)"),
        CONTRAST,
        spoil(lambda f: keep_slices(f, 0, 1)),
        files=CHECKED,
    ),
    BadInput(
        "one slice where the queue needs pairs",
        ("pairs: is ", "case101_day5 (0)", "leave these scans out"),
        {"auxiliary": "momentum_contrast"},
        spoil(lambda f: keep_slices(f, 0, 1)),
        files=CHECKED,
    ),
)
METADATA = (
    BadInput(
        "case without its day where FiLM is on",
        ("Toy_GI/case101_day5: has no number 'day_number' in its metadata", "take 'day_number' out of the features"),
        FILM,
        spoil(lambda f: change_manifest(f, lambda content: content["training"][0]["metadata"].pop("day_number"))),
    ),
    BadInput(
        "no metadata where FiLM is on",
        ("feature day_number: is a number in the metadata of no case; use slice_position, ", "add it to the manifest"),
        FILM,
        spoil(lambda f: change_manifest(f, lambda content: [row.pop("metadata") for row in content["training"]])),
    ),
    BadInput(
        "feature that nobody has",
        ("feature weight: is a number in the metadata of no case; use slice_position, ", "case_number, day_number"),
        {**FILM, "film_features": ["weight"]},
    ),
    BadInput("no feature", ("film_features: is []",), {**FILM, "film_features": []}),
    BadInput(
        "feature that stands twice",
        ("film_features: has 'slice_position' twice",),
        {**FILM, "film_features": ["slice_position", "slice_position"]},
    ),
    BadInput(
        "position that is told and asked for",
        ("film: tells the network the slice position, which the auxiliary", "leave slice_position out of film_features"),
        {**FILM, "auxiliary": "position"},
    ),
    BadInput(
        "metadata for a network without FiLM",
        ("film: is not built into deeplab; use --network small_unet or big_unet",),
        {**FILM, "network": "deeplab"},
    ),
)
COMBINATIONS = (
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
        ("{}/resnet.pth: is damaged or not a weights file",),
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
        ("batch_size: is 6, ", "multiple of 4"),
        {**CONTRAST, "pairs": 2, "batch_size": 6},
        files=CHECKED,
    ),
    BadInput("half a pair", ("batch_size: is 3, ",), {**CONTRAST, "batch_size": 3}),
    BadInput("no pair", ("pairs: is 0; give a whole number of 1 or more",), {**CONTRAST, "pairs": 0}, files=CHECKED),
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
    BadInput("image size of one number", ("image_size: is [64]; give 2 numbers of 16 or more",), {"image_size": [64]}),
    BadInput("image size that is no list", ("image_size: is 64, not a list",), {"image_size": 64}, files=frozenset()),
    BadInput("image of 8 pixels", ("image_size: is [8, 8]; give 2 numbers of 16",), {"image_size": [8, 8]}),
    BadInput("image of half pixels", ("image_size: is [16.5, 16.5]",), {"image_size": [16.5, 16.5]}),
    BadInput(
        "negative weight of the second task",
        ("auxiliary_weight: is [-1.0]; give 1 number of 0 or more",),
        {**CONTRAST, "auxiliary_weight": -1.0},
    ),
    BadInput("no patience", ("patience: is 0; give a whole number of epochs",), {"patience": 0}, files=CHECKED),
    BadInput("negative temperature", ("temperature: is -0.1",), {**CONTRAST, "temperature": -0.1}, files=CHECKED),
    BadInput("no queue", ("queue: is 0",), {"auxiliary": "momentum_contrast", "queue_size": 0}, files=CHECKED),
    BadInput("no slice as channel", ("slice_offsets: is []",), {"slice_offsets": []}),
    BadInput("half slices as channels", ("slice_offsets: is [0.5]",), {"slice_offsets": [0.5]}),
    BadInput(
        "shares beyond 100", ("shares: are [70, 20, 20]; give three percentages",), {"shares": [70, 20, 20]}, files=frozenset()
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
    BadInput("no checkpoint", ("checkpoint: is not given; pass --checkpoint",), {}, stage="evaluate", files=frozenset()),
    BadInput(
        "no such checkpoint",
        ("{}/model.pt: no such file",),
        {"checkpoint": "{}/model.pt"},
        stage="evaluate",
        files=frozenset(),
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
        "checkpoint of another bundle",
        ("{}/model.pt: ",),
        {"checkpoint": "{}/model.pt"},
        trained(keep=["label_names", "modalities"]),
        "evaluate",
    ),
    BadInput(
        "checkpoint of another bundle, inference",
        ("{}/model.pt: ",),
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
BAD_INPUTS = TABLES + SLICES + METADATA + COMBINATIONS + WORDS + NUMBERS + MODELS
IN_A_PROCESS_OF_ITS_OWN = "image without row"
CONFIGS = {"ensemble": ("evaluate", "ensemble"), "find_learning_rate": ("train", "find_learning_rate")}


def assert_said(line: str, bad: BadInput, folder: Path) -> None:
    for piece in bad.said:
        assert piece.replace("{}", str(folder)) in line


def assert_nothing_half_written(bad: BadInput, folder: Path) -> None:
    assert {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*")} <= bad.files
    assert (folder / "store").exists() <= (bad.files == CHECKED)
    assert {path.name for path in folder.iterdir()} <= {"cohort", "out", "store", "model.pt", "other.pt", "resnet.pth"}
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_ends_with_one_line_before_any_training(bad: BadInput, tmp_path: Path) -> None:
    bad.prepare(tmp_path)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        stage, *overlays = CONFIGS.get(bad.stage, (bad.stage,))
        run_gi_tract(stage, options(bad.stage, tmp_path, bad.options), *overlays)
    found = mendable(caught.value)
    assert found is not None, caught.value
    assert_said(str(found), bad, tmp_path)
    assert "\n" not in str(found)
    assert_nothing_half_written(bad, tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bad, id=bad.name, marks=() if bad.name == IN_A_PROCESS_OF_ITS_OWN else pytest.mark.slow)
        for bad in BAD_INPUTS
    ],
)
def test_bad_input_leaves_one_line_on_the_terminal(
    bad: BadInput, tmp_path: Path, arguments: Callable[..., list[str]]
) -> None:
    bad.prepare(tmp_path)
    files = [str(GI_TRACT / f"{name}.json") for name in CONFIGS.get(bad.stage, (bad.stage,))]
    words = ["--config_file", str(files), *arguments(options(bad.stage, tmp_path, bad.options))]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *words],
        cwd=GI_TRACT.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    # MONAI warns that a config is a program
    lines = [line for line in done.stderr.splitlines() if not re.search(r"UserWarning: parsing|^ +workflow = ", line)]
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert_said(lines[0], bad, tmp_path)
    assert_nothing_half_written(bad, tmp_path)
