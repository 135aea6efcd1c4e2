"""Weights that the two-stage bundle cannot learn from, score or predict with end with one line, before any of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from two_stage_inputs import teacher, together, written
from two_stage_refusals import CHECKED, BadInput, assert_refused, assert_refused_on_the_terminal

STUDENT = {"teachers": ["{}/model.pt"]}
TWO = {"teachers": ["{}/model.pt", "{}/other.pt"]}
JOB = "{}/study/jobs/train-jigsaw_joint_03-fold0-seed1-0123456789abcdef/run/model.pt"


def of_other(key: str, value: Any, said: str, **network: Any) -> BadInput:
    """A second teacher of another setting than the student."""
    return BadInput(
        f"teacher of other {key}",
        (f"{{}}/other.pt: was trained with {key} {said}; give teachers that were trained with the student's options",),
        TWO,
        together(teacher(), teacher("other.pt", settings={key: value}, **network)),
        "distill",
        CHECKED,
    )


def encoder(folder: Path) -> None:
    """A file as pre-training hands it on: a network without its last layer."""
    teacher()(folder)
    content = torch.load(folder / "model.pt", weights_only=True)
    last = [name for name in content["model"] if name.startswith("final_conv")]
    assert last
    for name in last:
        del content["model"][name]
    torch.save({**content, "kind": "shared"}, folder / "model.pt")


TEACHERS = (
    BadInput("no teacher", ("teachers: is [], a student has at least one; pass --teachers",), {}, stage="distill"),
    BadInput(
        "teachers that are no list",
        ("teachers: is '{}/model.pt', a student has",),
        {"teachers": "{}/model.pt"},
        teacher(),
        "distill",
    ),
    BadInput("teacher that is no path", ("teachers: has 3, which is no path",), {"teachers": [3]}, stage="distill"),
    BadInput(
        "teacher that stands twice",
        ("teachers: has {}/model.pt twice; name each once",),
        {"teachers": ["{}/model.pt", "{}/model.pt"]},
        teacher(),
        "distill",
    ),
    BadInput(
        "teacher that is not there",
        ("{}/other.pt: no such teacher; repeat the run that makes it",),
        TWO,
        teacher(),
        "distill",
    ),
    BadInput(
        "teacher that a study has not made",
        (
            f"{JOB}: no such teacher; repeat the arm that makes it: run the study again, which runs its job ",
            "-fold0-seed1",
        ),
        {"teachers": ["{}/model.pt", JOB]},
        teacher(),
        "distill",
    ),
    BadInput(
        "teacher that is an encoder",
        ("{}/model.pt: holds ", " of the network's ", "; pass model.pt of a fine-tuning run, not an encoder"),
        STUDENT,
        encoder,
        "distill",
        CHECKED,
    ),
    BadInput(
        "teacher that is no weights file",
        ("{}/model.pt: is damaged or not a weights file",),
        STUDENT,
        written("model.pt", "junk"),
        "distill",
        CHECKED,
    ),
    BadInput(
        "teacher of another bundle",
        ("{}/model.pt: was trained with organs None, the student with ['pneumothorax']",),
        STUDENT,
        teacher(without=["organs", "image_size"]),
        "distill",
        CHECKED,
    ),
    of_other("organs", ["pneumothorax", "heart"], "['pneumothorax', 'heart'], the student with ['pneumothorax']"),
    of_other("image_size", [32, 32], "[32, 32], the student with [16, 16]"),
    of_other("modalities", ["CT"], "['CT'], the student with ['CR']"),
    of_other("normalise_per", "scan", "scan, the student with slice"),
    of_other("slice_offsets", [-1, 0, 1], "[-1, 0, 1], the student with [0]", in_channels=3),
    *(
        BadInput(
            f"teacher that was trained on patients of {part}",
            (" cases are of patients that {}/other.pt was trained on; pass the --split_key, ", "--allow_seen true"),
            TWO,
            together(teacher(seen="training"), teacher("other.pt", seen=part)),
            "distill",
            CHECKED,
        )
        for part in ("validation", "test")
    ),
    BadInput(
        "teachers that teach nothing",
        ("soft_weight: is 0, so nothing would be learnt from the teachers",),
        {**STUDENT, "soft_weight": 0},
        teacher(),
        "distill",
    ),
    BadInput(
        "negative weight of the labels",
        ("hard_weight and soft_weight: is [-1, 1.0]; give 2 numbers of 0 or more",),
        {**STUDENT, "hard_weight": -1},
        teacher(),
        "distill",
    ),
    BadInput(
        "distillation at temperature 0",
        ("temperature: is [0]; give 1 number of 0.01 or more",),
        {**STUDENT, "temperature": 0},
        teacher(),
        "distill",
    ),
)
MODELS = (
    *(
        bad
        for stage in ("evaluate", "inference")
        for bad in (
            BadInput(f"no checkpoint, {stage}", ("checkpoint: is not given; pass --checkpoint",), {}, stage=stage),
            BadInput(
                f"encoder, {stage}",
                ("{}/model.pt: holds ", "pass model.pt of a fine-tuning run, not an encoder"),
                {"checkpoint": "{}/model.pt"},
                encoder,
                stage,
            ),
            BadInput(
                f"no slice at once, {stage}",
                ("slices_at_once: is [0]; give 1 whole number of 1 or more",),
                {"checkpoint": "{}/model.pt", "slices_at_once": 0},
                teacher(),
                stage,
            ),
            BadInput(
                f"windows that overlap wholly, {stage}",
                ("overlap: is 1; give a share from 0 and below 1",),
                {"checkpoint": "{}/model.pt", "overlap": 1},
                teacher(),
                stage,
                CHECKED,
            ),
        )
    ),
    BadInput(
        "ensemble of other image sizes",
        ("{}/other.pt: was trained with image_size [32, 32], the first model with [16, 16]; average models that",),
        {"checkpoint": "{}/model.pt", "ensemble_with": ["{}/other.pt"]},
        together(teacher(), teacher("other.pt", settings={"image_size": [32, 32]})),
        "inference",
    ),
    BadInput(
        "patients that a model was trained on",
        (" cases are of patients that the network was trained on; pass the ", "--allow_seen true"),
        {"checkpoint": "{}/model.pt"},
        teacher(seen="validation"),
        "evaluate",
    ),
)
BAD = TEACHERS + MODELS


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_weights_end_with_one_line(bad: BadInput, tmp_path: Path) -> None:
    assert_refused(bad, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_weights_leave_one_line_on_the_terminal(bad: BadInput, tmp_path: Path) -> None:
    assert_refused_on_the_terminal(bad, tmp_path)
