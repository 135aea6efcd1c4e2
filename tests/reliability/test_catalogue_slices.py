"""PNG slices, run lengths and metadata that are wrong or odd, given to the real command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_rows import gi_tract, two_stage
from catalogue import Row, assert_refused, assert_works, parametrized
from gi_tract_inputs import (
    GOOD,
    Prepare,
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
from PIL import Image
from two_stage_inputs import change_table as change_x_ray_table
from two_stage_inputs import of_row
from two_stage_inputs import spoil as spoil_x_rays
from two_stage_inputs import table as x_ray_table

TRAIN = gi_tract()
FILM = gi_tract(film=True)
X_RAYS = two_stage()
MODEL = frozenset({"model.pt"})
SCAN = "{}/cohort/train/case101/case101_day5/scans"
THIRD = f"{SCAN}/slice_0003_24_20_3.50_3.50.png"
MASK = "{}/cohort/train.csv: case101_day5_slice_0001, large_bowel: run lengths "


def third(change: Callable[[Path], Any]) -> Prepare:
    """A good cohort with the third slice of the first scan changed."""
    return spoil(lambda folder: change(slices(folder)[2]))


def saved(mode: str, **more: Any) -> Callable[[Path], Any]:
    """Save a slice in another mode of Pillow."""

    def change(path: Path) -> None:
        with Image.open(path) as image:
            grey = Image.fromarray((np.asarray(image) // 8).astype(np.uint8))
        grey.convert(mode).save(path, **more)

    return change


def with_channels(path: Path, *values: int) -> None:
    """Save a slice with each channel a constant."""
    Image.fromarray(np.full((20, 24, len(values)), values, np.uint8)).save(path)


def rotated_on_the_screen(path: Path) -> None:
    """A slice that viewers show turned by a quarter."""
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation
        image.save(path, exif=exif)


def flip_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 30] ^= 4
    path.write_bytes(content)


def all_slices(change: Callable[[Path], Any]) -> Prepare:
    """A good cohort with each slice of the first scan changed."""
    return spoil(lambda folder: [change(path) for path in slices(folder)])


PNG = (
    Row("slice in colours", TRAIN, (f"{THIRD}: has colours, expected a grey image; convert it to grey",),
        third(lambda path: with_channels(path, 90, 80, 70))),
    Row("slice with transparency", TRAIN, (f"{THIRD}: is partly transparent; save it without transparency",),
        third(lambda path: with_channels(path, 90, 90, 90, 128))),
    Row("grey slice with transparency", TRAIN, (f"{THIRD}: is partly transparent; save it without transparency",),
        third(lambda path: with_channels(path, 90, 128))),
    Row("slice with a palette", TRAIN, (f"{THIRD}: has a palette; save it as grey",), third(saved("P"))),
    Row("CMYK slice under the name of a PNG", TRAIN, (f"{THIRD}: is not a PNG file; convert it to PNG",),
        third(saved("CMYK", format="TIFF"))),
    Row("slice that ends early", TRAIN, (f"{THIRD}: ends early; copy or download the file again",),
        third(lambda path: path.write_bytes(path.read_bytes()[:-40]))),
    Row("bit flipped in a slice", TRAIN, (f"{THIRD}: checksum mismatch; copy or download the file again",),
        third(flip_a_pixel)),
    Row("empty slice", TRAIN, (f"{THIRD}: is empty; ",), third(lambda path: path.write_bytes(b""))),
    Row("slice that viewers turn", TRAIN, (f"{THIRD}: is turned by its EXIF orientation 6; save it as it is shown",),
        third(rotated_on_the_screen)),
    Row("slice of another depth", TRAIN, (f"{THIRD}: has 8 bits, the first slice of its scan 16; export the scan",),
        third(saved("L"))),
    Row("name of another size", TRAIN, (" is 24x20 pixels, its name says 25x20; correct the name",),
        third(lambda path: with_name(path, width=25))),
    Row("name of another scheme", TRAIN, (f"{SCAN}/image7.png: ", "slice_0001_266_266_1.50_1.50.png; correct its name"),
        third(lambda path: path.rename(path.with_name("image7.png")))),
    Row("spacing with a comma in the name", TRAIN, (f"{SCAN}/slice_0003_24_20_3,50_3,50.png: ", "correct its name"),
        third(lambda path: with_name(path, spacing="3,50"))),
    Row("spacing 0 in the names", TRAIN, ("spacing", "0 "), all_slices(lambda path: with_name(path, spacing="0.00"))),
    Row("spacing that differs within a scan", TRAIN, ("has pixels of 3.6 x 3.6 mm, the first slice of its scan 3.5",),
        third(lambda path: with_name(path, spacing="3.60"))),
    Row("size that differs within a scan", TRAIN, ("is 23x20 pixels, the first slice of its scan is 24x20",),
        third(lambda path: repaint(with_name(path, width=23), lambda pixels: pixels[:, :23]))),
    Row("number of a slice twice", TRAIN, (f"{SCAN}: has 2 slices of the number 4; leave one of them",),
        third(lambda path: path.rename(path.with_name("slice_4_24_20_3.50_3.50.png")))),
    Row("folder without slices", TRAIN, (f"{SCAN}: is a folder without slices named as slice_0001",),
        spoil(lambda f: drop_slices(f, 0, slice(0, None)))),
)  # fmt: skip
RUN_LENGTHS = (
    Row("run past the end", TRAIN, (f"{MASK}have a run from pixel 470 to 489, the image has 24x20", "give the masks"),
        of_mask("470 20")),
    Row("run outside the image", TRAIN, (f"{MASK}have a run from pixel 481 to 485",), of_mask("481 5")),
    Row("run from 0", TRAIN, (f"{MASK}have a run from 0 of length 5; starts and lengths count from 1",),
        of_mask("0 5")),
    Row("run from before the image", TRAIN, (f"{MASK}have a run from -3 of length 5; starts and lengths count",),
        of_mask("-3 5")),
    Row("run of a negative length", TRAIN, (f"{MASK}have a run from 9 of length -2; starts and lengths count from 1",),
        of_mask("9 -2")),
    Row("run of no length", TRAIN, (f"{MASK}have a run from 9 of length 0; starts and lengths count from 1",),
        of_mask("9 0")),
    Row("odd number of fields", TRAIN, (f"{MASK}have 3 fields, an odd number; write a start and a length",),
        of_mask("1 2 9")),
    Row("runs that overlap", TRAIN, (f"{MASK}overlap: ", "write each pixel of a mask once"), of_mask("10 5 12 4")),
    Row("runs in words", TRAIN, (f"{MASK}have the field 'ten'; write whole numbers",), of_mask("ten 5")),
    Row("runs with a point", TRAIN, (f"{MASK}have the field '1.5'; write whole numbers",), of_mask("1.5 2")),
    Row("runs with commas", TRAIN, (f"{MASK}have the field '1,2'; write whole numbers",), of_mask("1,2 3")),
    Row("run of astronomic length", TRAIN, (MASK, "; "), of_mask(f"1 {10**30}")),
    Row("no organ in any validated scan", TRAIN,
        ("validation: has no reference foreground in its only case, ", "choose another fold or fewer folds"),
        spoil(lambda f: change_table(f, lambda rows: [{**row, "segmentation": ""} for row in rows]))),
    Row("row that stands twice", TRAIN,
        ("{}/cohort/train.csv: has two rows for case101_day5_slice_0001 and large_bow",),
        spoil(lambda f: change_table(f, lambda rows: [rows[0], *rows]))),
    Row("image without rows", TRAIN,
        ("{}/cohort/train.csv: has no row for case101_day5_slice_0003, whose image is in",),
        spoil(lambda f: change_table(f, lambda rows: [r for r in rows if r["id"] != "case101_day5_slice_0003"]))),
    Row("rows without an image", TRAIN,
        ("{}/cohort/train.csv: has rows for case101_day5 without an image of 1 of its ",),
        spoil(lambda f: change_table(
            f, lambda rows: [*rows, *({**row, "id": "case101_day5_slice_0099"} for row in rows[:3])]))),
    Row("table of other columns", TRAIN,
        ("{}/cohort/train.csv: has the columns id, organ, segmentation, expected id,",),
        spoil(lambda f: table(f).write_text(table(f).read_text().replace("id,class,", "id,organ,", 1)))),
    Row("empty table", TRAIN, ("{}/cohort/train.csv: ",), spoil(lambda f: table(f).write_bytes(b""))),
    Row("table that is no text", TRAIN, ("{}/cohort/train.csv: ",),
        spoil(lambda f: table(f).write_bytes(b"\xff\xfe\x00id,class\x00" * 9))),
    Row("table of one organ less", TRAIN, ("{}/cohort/train.csv: has masks of large_bowel, stomach, the labels of ",),
        spoil(lambda f: change_table(f, lambda rows: [row for row in rows if row["class"] != "small_bowel"]))),
    Row("gaps outside the X-ray", X_RAYS,
        ("run lengths have a gap of 100 and a run of 200 that lead out of the image",),
        of_row("1 16380 100 200")),
    Row("negative gap of an X-ray", X_RAYS, ("run lengths have a gap of -5 before", "gaps count from 0"),
        of_row("-5 2")),
    Row("X-ray that is negative beside a mask", X_RAYS, ("{}/cohort/train-rle.csv: says -1 (no pneumothorax) for ",),
        spoil_x_rays(lambda f: change_x_ray_table(f, lambda rows: [[rows[0][0], "-1"], *rows]))),
    Row("labelled X-ray without a row", X_RAYS, ("{}/cohort/train-rle.csv: has no row for ", "list it under 'test'"),
        spoil_x_rays(lambda f: change_x_ray_table(f, lambda rows: [r for r in rows if r[0] != rows[0][0]]))),
    Row("X-rays without a table", X_RAYS, ("{}/cohort/train-rle.csv: no such file",),
        spoil_x_rays(lambda f: x_ray_table(f).unlink())),
)  # fmt: skip


def first_says(**metadata: Any) -> Prepare:
    """A good cohort whose first case has other metadata."""
    return spoil(lambda f: change_manifest(f, lambda content: content["training"][0]["metadata"].update(metadata)))


def is_not_a_number(name: str, value: Any) -> Row:
    """A day that is no finite number, where the network is told the day."""
    said = ("Toy_GI/case101_day5: has no number 'day_number' in its metadata", "take 'day_number' out of the features")
    return Row(f"day that is {name}", FILM, said, first_says(day_number=value))


METADATA = (
    Row("case without its day", FILM, ("Toy_GI/case101_day5: has no number 'day_number' in its metadata",),
        spoil(lambda f: change_manifest(f, lambda content: content["training"][0]["metadata"].pop("day_number")))),
    Row("later case without its day", FILM, ("Toy_GI/case104_day7: has no number 'day_number' in its metadata",),
        spoil(lambda f: change_manifest(f, lambda content: content["training"][4]["metadata"].pop("day_number")))),
    Row("no case with a day", FILM,
        ("feature day_number: is a number in the metadata of no case; use slice_position, ",),
        spoil(lambda f: change_manifest(f, lambda content: [row.pop("metadata") for row in content["training"]]))),
    is_not_a_number("null", None),
    is_not_a_number("text", "five"),
    is_not_a_number("a number in quotes", "5"),
    is_not_a_number("NaN", float("nan")),
    is_not_a_number("infinite", float("inf")),
    is_not_a_number("a switch", True),
    Row("metadata that are no dictionary", FILM, ("{}/cohort/dataset.json", "metadata"),
        spoil(lambda f: change_manifest(f, lambda content: content["training"][0].update(metadata=[5])))),
    Row("feature that nobody has", gi_tract(film=True, film_features=["weight"]),
        ("feature weight: is a number in the metadata of no case; use slice_position, ", "case_number, day_n"), GOOD),
)  # fmt: skip
LEGAL = (
    Row("height before width in the names", TRAIN, ("Notice: Toy_GI/case101_day5: gives height before width in the ",),
        all_slices(lambda path: with_name(path, width=20, height=24)), True, MODEL),
    Row("grey slices saved in colours", TRAIN, (), all_slices(saved("RGB")), True, MODEL),
    Row("opaque slices with transparency", TRAIN, (), all_slices(saved("RGBA")), True, MODEL),
    Row("upright slices with an EXIF orientation", TRAIN, (), all_slices(lambda path: upright(path)), True, MODEL),
    Row("nan for an empty mask", TRAIN, (), of_mask("nan"), True, MODEL),
    Row("runs in another order", TRAIN, (), of_mask("30 4 10 5"), True, MODEL),
    Row("scan of one slice", TRAIN, (), spoil(lambda f: drop_slices(f, 0, slice(1, None))), True, MODEL),
    Row("slice that is missing", TRAIN, ("Notice: Toy_GI/case101_day5: lacks 1 of its slices (number 4)",),
        spoil(lambda f: drop_slices(f, 0, slice(3, 4))), True, MODEL),
    Row("case whose metadata nobody asks for", TRAIN, (), first_says(day_number=None, weight="heavy"), True, MODEL),
)  # fmt: skip


def upright(path: Path) -> None:
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 1
        image.save(path, exif=exif)


REFUSED = (*PNG, *RUN_LENGTHS, *METADATA)


@pytest.mark.parametrize(("row", "workers"), parametrized(REFUSED))
def test_wrong_slices_masks_and_metadata_are_refused(row: Row, workers: int, tmp_path: Path) -> None:
    assert_refused(row, tmp_path, workers)


@pytest.mark.parametrize(("row", "workers"), parametrized(LEGAL))
def test_odd_slices_masks_and_metadata_train(row: Row, workers: int, tmp_path: Path) -> None:
    assert_works(row, tmp_path, workers)
