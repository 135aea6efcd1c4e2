"""What can be wrong with scans of slices and their masks ends with one line and the remedy, before any training."""

from pathlib import Path

import pytest
from gi_tract_inputs import (
    change_manifest,
    change_table,
    drop_slices,
    of_mask,
    repaint,
    slices,
    spoil,
    table,
    with_name,
)
from gi_tract_refusals import (
    CHECKED,
    BadInput,
    assert_refused,
    assert_refused_on_the_terminal,
)

CONTRAST = {"auxiliary": "contrast"}
FILM = {"film": True}
TABLES = (
    BadInput(
        "row without image",
        (
            "{}/cohort/train.csv: has rows for case101_day5 without an image of 1 of its ",
            "_slice_0099",
            "add the images",
        ),
        {},
        spoil(
            lambda f: change_table(
                f, lambda rows: [*rows, *({**row, "id": "case101_day5_slice_0099"} for row in rows[:3])]
            )
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
        "no organ in any scan",
        ("validation: has no reference foreground in its only case, ", "choose another fold or fewer folds"),
        {},
        spoil(lambda f: change_table(f, lambda rows: [{**row, "segmentation": ""} for row in rows])),
        files=CHECKED,
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
        ("{}/cohort/train.csv: has masks of large_bowel, stomach, the labels of ", 'write "labels": '),
        {},
        spoil(lambda f: change_table(f, lambda rows: [row for row in rows if row["class"] != "small_bowel"])),
    ),
    BadInput(
        "manifest that does not say that masks may overlap",
        ('{}/cohort/train.csv: holds masks that may overlap, which Toy_GI does not say; write "labels": ',),
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
        ("has pixels of 3.6 x 3.6 mm, the first slice of its scan 3.5 x 3.5 mm; correct the names",),
        {},
        spoil(lambda f: with_name(slices(f)[2], spacing="3.60")),
    ),
    BadInput(
        "sizes that differ within a scan",
        ("is 23x20 pixels, the first slice of its scan is 24x20; export the scan again",),
        {},
        spoil(lambda f: repaint(with_name(slices(f)[2], width=23), lambda pixels: pixels[:, :23])),
    ),
    BadInput(
        "damaged slice",
        ("slice_0003", ": ends early; copy or download the file again"),
        {},
        spoil(lambda f: slices(f)[2].write_bytes(slices(f)[2].read_bytes()[:-40])),
    ),
    BadInput(
        "folder without slices",
        ("{}/cohort/train/case101/case101_day5/scans: is a folder without slices named as",),
        {},
        spoil(lambda f: drop_slices(f, 0, slice(0, None))),
    ),
    BadInput(
        "number that stands twice",
        ("{}/cohort/train/case101/case101_day5/scans: has 2 slices of the number 3; leave one of them",),
        {},
        spoil(
            lambda f: with_name(slices(f)[3].rename(slices(f)[3].with_name(slices(f)[2].name.replace("_0003", "_3"))))
        ),
    ),
    BadInput(
        "one slice where contrast needs pairs",
        ("pairs: is ", "more pairs of neighbouring slices than these scans give: ", "case101_day5 (0)"),
        CONTRAST,
        spoil(lambda f: drop_slices(f, 0, slice(1, None))),
        files=CHECKED,
    ),
    BadInput(
        "one slice where the queue needs pairs",
        ("pairs: is ", "case101_day5 (0)", "leave these scans out"),
        {"auxiliary": "momentum_contrast"},
        spoil(lambda f: drop_slices(f, 0, slice(1, None))),
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
    BadInput("no feature", ("film_features: is []; give a list of names",), {**FILM, "film_features": []}),
    BadInput(
        "feature that stands twice",
        ("film_features: has 'slice_position' twice; name each once",),
        {**FILM, "film_features": ["slice_position", "slice_position"]},
    ),
)
BAD = TABLES + SLICES + METADATA


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_scans_end_with_one_line_before_any_training(bad: BadInput, tmp_path: Path) -> None:
    assert_refused(bad, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_scans_leave_one_line_on_the_terminal(bad: BadInput, tmp_path: Path) -> None:
    assert_refused_on_the_terminal(bad, tmp_path)
