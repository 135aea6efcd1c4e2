"""What a user can get wrong about kidneys ends with one line and the remedy, before any network is trained."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from siamese_kidney_inputs import (
    FROM_ENCODER,
    PATIENTS,
    Prepare,
    change_manifest,
    cohort,
    encoder,
    image_file,
    label_file,
    options,
    rewrite,
    spoil,
    without_geometry,
)
from siamese_kidney_runs import SIAMESE_KIDNEY, run_siamese

from mtmed.bundle.messages import mendable

RUN = frozenset({".run.lock", "config.json", "log.txt"})
CHECKED = RUN | {"data_check.json"}
# the pairs can be counted only when the volumes are prepared
REPORTED = CHECKED | {"sides.csv", "regions.png"}


def of_one_patient(folder: Path) -> None:
    change_manifest(folder, lambda content: [row.update(patient="p") for row in content["training"]])


@dataclass(frozen=True)
class BadInput:
    """What is done to a good run, and what the last line must say; ``{}`` stands for the folder."""

    name: str
    said: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    prepare: Prepare = field(default=cohort(cases=PATIENTS))
    stage: str = "pretrain"
    files: frozenset[str] = field(default=RUN)


NO_GEOMETRY = ("declares no orientation", "left and right are unknown", "export it again with its geometry")
ANONYMOUS_IMAGE, ANONYMOUS_LABEL = (
    spoil(lambda f, part=part: without_geometry(f / part(1))) for part in (image_file, label_file)
)
HALF = {"proxy": "half_volume"}
ALL_IMAGES = {**HALF, "training_images": "all"}
HIDDEN_CASE = 210
SCANS = (
    BadInput(
        "image without affine",
        (f"{{}}/{image_file(1)}: ", *NO_GEOMETRY),
        {},
        ANONYMOUS_IMAGE,
    ),
    BadInput(
        "label without affine",
        (f"{{}}/{label_file(1)}: ", *NO_GEOMETRY),
        {},
        ANONYMOUS_LABEL,
    ),
    BadInput(
        "image without affine, halves of the body",
        (f"{{}}/{image_file(1)}: ", *NO_GEOMETRY),
        HALF,
        ANONYMOUS_IMAGE,
    ),
    BadInput(
        "image without affine, segmentation",
        (f"{{}}/{image_file(1)}: ", *NO_GEOMETRY),
        {},
        ANONYMOUS_IMAGE,
        "train",
    ),
    BadInput(
        "hidden image that is not there",
        (f"{{}}/{image_file(HIDDEN_CASE)}: listed under 'test', no such file", "use labelled cases only"),
        ALL_IMAGES,
        spoil(lambda f: (f / image_file(HIDDEN_CASE)).unlink()),
    ),
    BadInput(
        "hidden image without affine",
        (f"{{}}/{image_file(HIDDEN_CASE)}: ", *NO_GEOMETRY),
        ALL_IMAGES,
        spoil(lambda f: without_geometry(f / image_file(HIDDEN_CASE))),
    ),
    BadInput(
        "label value that nobody named",
        (f"{{}}/{label_file(1)}: label values 3 are not in the manifest (0 background, 1 kidney, 2 tumour)",),
        {},
        spoil(lambda f: rewrite(f / label_file(1), lambda data: data * np.uint8(3))),
    ),
    BadInput(
        "only left kidneys",
        ("kidney pairs: all 4 kidneys found are left ones, pairs need both sides", "orientation of the files"),
        {},
        cohort(cases=PATIENTS, sides=dict.fromkeys(range(PATIENTS), "left")),
        files=REPORTED,
    ),
    BadInput(
        "only horseshoe kidneys",
        ("kidney pairs: none of the 4 cases has a kidney", "beyond the mid-sagittal plane", "check the labels"),
        {},
        cohort(cases=PATIENTS, sides=dict.fromkeys(range(PATIENTS), "fused")),
        files=REPORTED,
    ),
    BadInput("one patient", ("folds: 1 patients cannot make 3 folds", "use fold none"), {}, spoil(of_one_patient)),
    BadInput(
        "one patient without validation",
        ("kidney pairs: all 11 kidneys found are of one patient, pairs need two", "set different_patients to false"),
        {"fold": "none"},
        spoil(of_one_patient),
        files=REPORTED,
    ),
    BadInput(
        "fraction of one patient",
        ("kidney pairs: all 2 kidneys found are of one patient", "add patients"),
        {"fraction": 10},
        files=REPORTED,
    ),
    BadInput(
        "validation of one patient",
        ("validation: has kidneys of 1 patient, and pairs need two", "fewer folds, or --fold none"),
        {"folds": PATIENTS},
        files=REPORTED,
    ),
    BadInput(
        "labels that no group names",
        ("data set Toy_KiTS: has none of the labels of the group 'kidney' (ren)", "label_groups: 'kidney', 'tumour'"),
        {"label_groups": {"kidney": ["ren"]}},
        files=CHECKED,
    ),
    BadInput(
        "labels that no group names, segmentation",
        ("data set Toy_KiTS: has none of the labels of the group 'kidney' (ren)", "label_groups: 'kidney', 'tumour'"),
        {"label_groups": {"kidney": ["ren"]}},
        stage="train",
        files=CHECKED,
    ),
)
PRETRAIN_OPTIONS = (
    BadInput("unknown proxy", ("proxy: is 'halves'; choose one of masked, half_volume",), {"proxy": "halves"}),
    BadInput(
        "unknown intensity",
        ("region_intensity: is 'flat'; choose one of image, constant",),
        {"region_intensity": "flat"},
    ),
    BadInput(
        "constant halves",
        ("region_intensity: is 'constant' (half volumes have no shape of their own); choose one of image",),
        {"region_intensity": "constant", **HALF},
    ),
    BadInput(
        "all images for the proxy with labels",
        ("training_images: is 'all' (the masked proxy needs labels); choose one of fraction",),
        {"training_images": "all"},
    ),
    BadInput("unknown images", ("training_images: is 'some'",), {"training_images": "some", **HALF}),
    BadInput("unknown embedding", ('embedding: is \'mean\'; choose "pooled" or "flatten"',), {"embedding": "mean"}),
    BadInput("margin of zero", ("margin: is 0.0; give a positive number",), {"margin": 0.0}),
    BadInput("negative threshold", ("threshold: is -0.5; give a positive distance",), {"accuracy_threshold": -0.5}),
    BadInput("negative volume", ("minimum_ml: is -1; give a volume in ml",), {"minimum_ml": -1.0}, files=CHECKED),
    BadInput(
        "region of two axes",
        ("region_mm: is [128.0, 128.0]; give 3 numbers of 1 or more",),
        {"region_mm": [128.0, 128.0]},
    ),
    BadInput("half of two axes", ("half_mm: is [128.0, 128.0]; give 3",), {"half_mm": [128.0, 128.0], **HALF}),
    BadInput("negative region", ("region_mm: is [1, 1, -1]; give 3",), {"region_mm": [1, 1, -1]}),
    BadInput("spacing of two axes", ("spacing: is [8.0, 8.0]; give 3 numbers",), {"spacing": [8.0, 8.0]}),
    BadInput(
        "groups that do not divide",
        ("network_def: groups is 3, which does not divide growth 4", "give a common divisor"),
        {"network_def#groups": 3},
    ),
    BadInput(
        "misspelt option",
        ("regoin_mm: unknown option (from the command line); did you mean 'region_mm'?",),
        {"regoin_mm": [128.0, 128.0, 160.0]},
        files=frozenset(),
    ),
    BadInput(
        "word for a switch",
        ("different_patients: is 'no', not True or False",),
        {"different_patients": "no"},
        files=frozenset(),
    ),
)
TRAIN_OPTIONS = (
    BadInput("unknown part", ("part: is 'halves'; choose one of whole, half",), {"part": "halves"}),
    BadInput(
        "window of two axes",
        ("window_size: is [32, 32]; give 3 numbers",),
        {"part": "half", "window_size": [32, 32]},
    ),
    BadInput(
        "negative foreground weight",
        ("foreground_weight: is -1.0; give a positive number",),
        {"foreground_weight": -1.0},
    ),
    BadInput(
        "one weight of the cross-entropy",
        ("cross_entropy_weight: is [0.6]; give 2 numbers of 0 or more",),
        {"cross_entropy_weight": [0.6]},
    ),
    BadInput("three weights of Dice", ("dice_weight: is [0.4, 0.6, 0.8]; give 2",), {"dice_weight": [0.4, 0.6, 0.8]}),
    BadInput("negative weight", ("dice_weight: is [0.4, -0.8]; give 2",), {"dice_weight": [0.4, -0.8]}),
    BadInput(
        "negative reconstruction",
        ("reconstruction_weight: is [-0.1]; give 1 number of 0 or more",),
        {"reconstruction_weight": -0.1},
    ),
    BadInput(
        "weight that is no list",
        ("cross_entropy_weight: is 0.6, not a list", "its default is [0.6, 0.2]"),
        {"cross_entropy_weight": 0.6},
        files=frozenset(),
    ),
    BadInput(
        "two groups",
        ("number of label_groups: is '2'",),
        {"label_groups": {"kidney": ["kidney"], "tumour": ["tumour"]}},
    ),
    BadInput(
        "misspelt weight",
        ("foregroud_weight: unknown option", "did you mean 'foreground_weight'?"),
        {"foregroud_weight": 2.0},
        files=frozenset(),
    ),
)
ENCODERS = (
    BadInput(
        "encoder that saw all patients",
        ("2 of 2 cases are of patients that the network was trained on", "--allow_seen true"),
        FROM_ENCODER,
        encoder(seen=[f"case_{number:05d}" for number in range(PATIENTS)]),
    ),
    BadInput(
        "encoder of another network",
        ("network_def::growth: is [8, 8, 8, 8], but {}/encoder.pt was trained with [4, 4, 4, 4]",),
        {**FROM_ENCODER, "network_def#growth": [8, 8, 8, 8]},
        encoder(),
    ),
    BadInput(
        "encoder of the paper's order",
        ("network_def::paper_order: is False, but {}/encoder.pt was trained with True",),
        {**FROM_ENCODER, "network_def#paper_order": False},
        encoder(network={"paper_order": True}),
    ),
    BadInput(
        "encoder of another spacing",
        ("spacing: is [4.0, 4.0, 6.0], but {}/encoder.pt was trained with [8.0, 8.0, 10.0]",),
        {**FROM_ENCODER, "spacing": [4.0, 4.0, 6.0]},
        encoder(),
    ),
    BadInput(
        "encoder of two channels",
        ("network_def::in_channels: is 1, but {}/encoder.pt was trained with 2",),
        FROM_ENCODER,
        encoder(network={"in_channels": 2}),
    ),
    BadInput("no such encoder", ("{}/encoder.pt: no such file",), FROM_ENCODER),
    BadInput(
        "file of another program",
        ("{}/encoder.pt: has no model, network_def, settings",),
        FROM_ENCODER,
        spoil(lambda folder: torch.save({"state_dict": {}}, folder / "encoder.pt")),
    ),
)
SEGMENTATION = tuple(replace(bad, stage="train") for bad in (*TRAIN_OPTIONS, *ENCODERS))
BAD_INPUTS = SCANS + PRETRAIN_OPTIONS + SEGMENTATION


def assert_said(line: str, bad: BadInput, folder: Path) -> None:
    for piece in bad.said:
        assert piece.replace("{}", str(folder)) in line


def assert_nothing_half_written(bad: BadInput, folder: Path) -> None:
    assert {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*")} <= bad.files
    assert (folder / "store").exists() <= (bad.files == REPORTED)
    assert {path.name for path in folder.iterdir()} <= {"cohort", "out", "store", "encoder.pt"}
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_ends_with_one_line_before_any_training(bad: BadInput, tmp_path: Path) -> None:
    bad.prepare(tmp_path)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        run_siamese(bad.stage, options(bad.stage, tmp_path, bad.options))
    found = mendable(caught.value)
    assert found is not None, caught.value
    assert_said(str(found), bad, tmp_path)
    assert "\n" not in str(found)
    assert_nothing_half_written(bad, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_leaves_one_line_on_the_terminal(
    bad: BadInput, tmp_path: Path, arguments: Callable[..., list[str]]
) -> None:
    bad.prepare(tmp_path)
    words = [
        "--config_file",
        str(SIAMESE_KIDNEY / f"{bad.stage}.json"),
        *arguments(options(bad.stage, tmp_path, bad.options)),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *words],
        cwd=SIAMESE_KIDNEY.parents[1],
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
