"""What can be wrong with X-rays, scans and their masks ends with one line and the remedy, before any training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from two_stage_inputs import (
    Prepare,
    change_manifest,
    change_table,
    image,
    of_row,
    part_of,
    replace_image,
    spoil,
    table,
    teacher,
    together,
)
from two_stage_refusals import CHECKED, NOTHING, BadInput, assert_refused, assert_refused_on_the_terminal

UNLABELLED = {"task": "jigsaw", "unlabelled": True}


def negative(part: str) -> Prepare:
    """X-rays, of which those of a part show no pneumothorax."""

    def change(folder: Path) -> None:
        names = part_of(folder, part)
        change_table(
            folder, lambda rows: [[n, "-1"] for n in sorted(names)] + [row for row in rows if row[0] not in names]
        )

    return spoil(change)


IMAGES = (
    BadInput(
        "file that ends early",
        ("cannot be read as DICOM: it is damaged, ends early or is no image", "copy or download the file again"),
        {},
        spoil(lambda f: image(f).write_bytes(image(f).read_bytes()[:-4000])),
    ),
    BadInput(
        "file that is no image",
        ("cannot be read as DICOM: it is damaged, ends early or is no image",),
        {},
        spoil(lambda f: image(f).write_text("x" * 900)),
    ),
    BadInput("empty file", (".dcm: is empty",), {}, spoil(lambda f: image(f).write_bytes(b""))),
    BadInput("file that is not there", (".dcm: no such file",), {}, spoil(lambda f: image(f).unlink())),
    # before the first of its trainings
    BadInput("file of a whole method", (".dcm: no such file",), {}, spoil(lambda f: image(f).unlink()), "run", NOTHING),
    BadInput(
        "colours",
        (".dcm: has colours, expected a grey image; convert it to grey, or leave it out",),
        {},
        replace_image((128, 128, 3)),
    ),
    BadInput(
        "several frames",
        (".dcm: has 3 frames, expected one image; convert it to .nii.gz, or save one frame",),
        {},
        replace_image((3, 128, 128), volume=True),
    ),
    BadInput(
        "slice of a CT",
        ("(CT), expected an X-ray; name the folder with all slices of the series, or convert it to one .nii.gz",),
        {},
        replace_image((128, 128), modality="CT"),
    ),
    BadInput(
        "damaged image among those without labels",
        ("cannot be read as DICOM: it is damaged, ends early or is no image",),
        UNLABELLED,
        spoil(lambda f: image(f, part="test").write_bytes(image(f, part="test").read_bytes()[:-4000])),
        files=CHECKED,
    ),
    BadInput(
        "image without a label that is not there",
        (".dcm: listed under 'test', no such file; ",),
        UNLABELLED,
        spoil(lambda f: image(f, part="test").unlink()),
    ),
)


def header(names: str) -> Prepare:
    """X-rays, of which the table has other names of columns."""

    def change(folder: Path) -> None:
        table(folder).write_text(table(folder).read_text().replace("ImageId, EncodedPixels", names, 1))

    return spoil(change)


def colour_png(folder: Path) -> None:
    """The first image as a PNG file in colours."""
    path = image(folder).with_suffix(".png")
    Image.fromarray(np.full((128, 128, 3), (90, 80, 70), np.uint8)).save(path)
    relative = f"./{path.relative_to(folder / 'cohort')}"
    change_manifest(folder, lambda content: content["training"][0].update(image=relative))


TABLES = (
    BadInput(
        "odd number of fields",
        (": run lengths have 3 fields, an odd number; write a gap and a length for each run, or -1 for an empty mask",),
        {},
        of_row("1 2 3"),
    ),
    BadInput(
        "runs outside the image",
        (": run lengths have a gap of 100 and a run of 200 that lead out of the image of 128x128 = 16384 pixels",),
        {},
        of_row("1 16380 100 200"),
    ),
    BadInput("runs in words", (": run lengths have the field 'ten'; write whole numbers",), {}, of_row("ten 2")),
    BadInput("negative gap", (": run lengths have a gap of -5 before", "gaps count from 0"), {}, of_row("-5 2")),
    BadInput(
        "row without a mask",
        ("{}/cohort/train-rle.csv: line 2 has the image '", "give its run lengths, -1 for no pneumothorax"),
        {},
        of_row(""),
    ),
    BadInput(
        "negative beside a mask",
        (
            "{}/cohort/train-rle.csv: says -1 (no pneumothorax) for ",
            " beside a mask; remove the row of -1 or the masks",
        ),
        {},
        spoil(lambda f: change_table(f, lambda rows: [[rows[0][0], "-1"], *rows])),
    ),
    BadInput(
        "labelled image without row",
        (
            "{}/cohort/train-rle.csv: has no row for ",
            ", which is unlabelled then and not negative; list it under 'test'",
        ),
        {},
        spoil(lambda f: change_table(f, lambda rows: [row for row in rows if row[0] != rows[0][0]])),
    ),
    BadInput(
        "row of three fields",
        ("{}/cohort/train-rle.csv: line 2 has 3 fields, expected 2; write the table again",),
        {},
        spoil(lambda f: change_table(f, lambda rows: [[*rows[0], "1"], *rows[1:]])),
    ),
    BadInput("no row", ("{}/cohort/train-rle.csv: has no row",), {}, spoil(lambda f: change_table(f, lambda rows: []))),
    BadInput(
        "column that is missing",
        ("{}/cohort/train-rle.csv: has the columns ImageId, Pixels, expected ImageId and EncodedPixels",),
        {},
        header("ImageId,Pixels"),
    ),
    BadInput(
        "column that stands twice",
        ("{}/cohort/train-rle.csv: has two columns encodedpixels; leave one of them",),
        {},
        header("ImageId, EncodedPixels,EncodedPixels"),
    ),
    BadInput(
        "names of the columns again",
        ("{}/cohort/train-rle.csv: line 2 has the names of the columns again; remove the line",),
        {},
        header("ImageId, EncodedPixels\nImageId, EncodedPixels"),
    ),
    BadInput("no table", ("{}/cohort/train-rle.csv: no such file",), {}, spoil(lambda f: table(f).unlink())),
    BadInput(
        "labels that the table does not have",
        ("{}/cohort/train-rle.csv: has masks of pneumothorax, the labels of Demo_Pneumothorax are 1 lung; write",),
        {},
        spoil(lambda f: change_manifest(f, lambda c: c.update(labels={"0": "background", "1": "lung"}))),
    ),
    BadInput("X-ray in colours", (".png: ", "grey"), {}, spoil(colour_png)),
)
PARTS = (
    BadInput(
        "validation without a pneumothorax",
        ("validation: is all-negative: none of its 4 cases has pneumothorax, and nothing could be chosen by Dice",),
        {},
        negative("validation"),
        files=CHECKED,
    ),
    BadInput(
        "validation without a pneumothorax, of a student",
        ("validation: is all-negative: none of its 4 cases has pneumothorax",),
        {"teachers": ["{}/model.pt"]},
        together(negative("validation"), teacher()),
        "distill",
        CHECKED,
    ),
    BadInput(
        "one patient",
        ("shares: 1 patients cannot make 3 parts; give fewer parts a share",),
        {},
        spoil(lambda f: change_manifest(f, lambda c: [row.update(patient="p") for row in c["training"]])),
        files=NOTHING,
    ),
    BadInput(
        "no image without a label",
        ("unlabelled: finds no image without a label; list images under test in dataset.json, give a --fraction",),
        UNLABELLED,
        spoil(lambda f: change_manifest(f, lambda content: content.update(test=[]))),
    ),
    BadInput(
        "no image without a label, for a student",
        ("unlabelled: finds no image without a label",),
        {"teachers": ["{}/model.pt"], "unlabelled": True},
        together(spoil(lambda f: change_manifest(f, lambda content: content.update(test=[]))), teacher()),
        "distill",
    ),
)
BAD = IMAGES + TABLES + PARTS


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_images_and_masks_end_with_one_line_before_any_training(bad: BadInput, tmp_path: Path) -> None:
    assert_refused(bad, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_images_and_masks_leave_one_line_on_the_terminal(bad: BadInput, tmp_path: Path) -> None:
    assert_refused_on_the_terminal(bad, tmp_path)
