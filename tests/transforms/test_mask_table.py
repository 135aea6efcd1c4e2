from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, Orientationd
from slice_folder import ORGANS, save_png, write_stack, write_table

from mtmed.errors import InputError
from mtmed.organ_masks import unpack_masks
from mtmed.transforms import LoadVolumed, mask_table
from mtmed.transforms.mask_table import MaskTable, read_mask_table, table_problems, unlisted_scans
from mtmed.transforms.reading import read_label, read_volume

RNG = np.random.default_rng(0)
SLICES = RNG.integers(0, 65536, (4, 5, 7), np.uint16)  # slice, row, column
MASKS = RNG.random((3, 4, 5, 7)) > 0.6  # organ, slice, row, column
MASKS[:, 2] = False
MASKS[2, 3] = True


@pytest.fixture
def scan(tmp_path):
    return write_stack(tmp_path / "case7" / "case7_day3" / "scans", SLICES)


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "train.csv", {"case7_day3": MASKS})


def problem(table: Path, scan: Path, *, culprit: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_label(table, read_volume(scan))
    assert caught.value.culprit == (culprit or str(table))
    assert "\n" not in str(caught.value)
    return caught.value.problem


def edited(table: Path, old: str, new: str) -> Path:
    text = table.read_text()
    assert text.count(old) == 1
    table.write_text(text.replace(old, new))
    return table


def row(table: Path, start: str) -> str:
    return next(line for line in table.read_text().splitlines() if line.startswith(start))


def test_masks_are_packed_on_the_grid_of_their_image(scan, table):
    image = read_volume(scan)
    label = read_label(table, image)
    assert label.data.shape == image.data.shape
    assert label.data.dtype == np.uint8
    np.testing.assert_array_equal(unpack_masks(label.data[None], 3), MASKS.transpose(0, 3, 2, 1))
    np.testing.assert_array_equal(label.affine, image.affine)
    assert label.spacing == image.spacing


def test_image_and_mask_are_turned_alike(tmp_path):
    pixels = np.zeros((3, 4), np.uint16)
    pixels[0, 1:] = 900
    pixels[1, 1] = 500
    scan = write_stack(tmp_path / "case1_day0" / "scans", pixels[None])
    table = tmp_path / "train.csv"
    table.write_text("id,class,segmentation\ncase1_day0_slice_0001,stomach,2 3 6 1\n")
    keys = ["image", "label"]
    chain = Compose([LoadVolumed(keys), Orientationd(keys, axcodes="SPL", labels=None)])
    loaded = chain({"image": scan, "label": table})
    np.testing.assert_array_equal(loaded["image"][0, 0], pixels)
    np.testing.assert_array_equal(loaded["label"][0, 0], [[0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_organs_are_bits_in_alphabetical_order_whatever_the_order_of_rows(scan, table):
    header, *lines = table.read_text().splitlines()
    expected = read_label(table, read_volume(scan)).data
    table.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert MaskTable.read(table).classes == ORGANS
    np.testing.assert_array_equal(read_label(table, read_volume(scan)).data, expected)


def test_slices_are_found_by_their_number(tmp_path, table):
    scan = write_stack(tmp_path / "some" / "case7_day3" / "scans", SLICES[[1, 3]], numbers=[2, 4])
    label = read_label(table, read_volume(scan))
    np.testing.assert_array_equal(unpack_masks(label.data[None], 3), MASKS[:, [1, 3]].transpose(0, 3, 2, 1))


def test_one_slice_of_a_scan_has_its_masks(scan, table):
    label = read_label(table, read_volume(scan / "slice_0002_7_5_1.50_1.50.png"))
    np.testing.assert_array_equal(unpack_masks(label.data[None], 3), MASKS[:, [1]].transpose(0, 3, 2, 1))


def test_a_submission_is_a_table_of_masks(tmp_path, scan, table):
    predicted = write_table(tmp_path / "submission.csv", {"case7_day3": MASKS}, column="predicted")
    image = read_volume(scan)
    np.testing.assert_array_equal(read_label(predicted, image).data, read_label(table, image).data)


def test_other_columns_a_byte_order_mark_quotes_and_nan_are_read(scan, table):
    image = read_volume(scan)
    expected = read_label(table, image).data
    lines = [line.split(",") for line in table.read_text().splitlines()]
    text = "\n".join(f'{i},{a},"{b or "NaN"}","{c}"' for i, (c, b, a) in enumerate((c, b, a) for a, b, c in lines))
    text = text.replace(text.splitlines()[0], 'row,id,"class","segmentation"')
    table.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    np.testing.assert_array_equal(read_label(table, image).data, expected)
    table.write_text(table.read_text(encoding="utf-8-sig").replace('""', '"nan"'))
    np.testing.assert_array_equal(read_label(table, image).data, expected)


def test_a_table_is_parsed_once_until_it_changes(table):
    first = MaskTable.read(table)
    assert MaskTable.read(str(table)) is first
    edited(table, row(table, "case7_day3_slice_0003,stomach"), "case7_day3_slice_0003,stomach,1 35")
    assert MaskTable.read(table).scans["case7_day3"][3]["stomach"] == "1 35"


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ("34 3", "run lengths have a run from pixel 34 to 36, the image has 7x5 = 35 pixels"),
        ("1 2 3", "run lengths have 3 fields, an odd number"),
        ("1 3 2 2", "run lengths overlap: a run goes from pixel 1 to 3, another starts at 2"),
        ("1 two", "run lengths have the field 'two'"),
    ],
)
def test_run_lengths_that_are_no_mask_of_the_slice_are_named_with_their_row(scan, table, runs, expected):
    edited(table, row(table, "case7_day3_slice_0003,stomach"), f"case7_day3_slice_0003,stomach,{runs}")
    assert problem(table, scan, culprit=f"{table}: case7_day3_slice_0003, stomach") == expected


def test_an_image_without_row_is_named(scan, table):
    save_png(scan / "slice_0005_7_5_1.50_1.50.png", SLICES[0])
    assert problem(table, scan) == f"has no row for case7_day3_slice_0005, whose image is in {scan}"


def test_a_slice_without_the_row_of_an_organ_is_named(scan, table):
    edited(table, row(table, "case7_day3_slice_0003,stomach") + "\n", "")
    assert problem(table, scan) == "has no row for case7_day3_slice_0003 and stomach"


def test_a_scan_without_rows_is_named(tmp_path, table):
    scan = write_stack(tmp_path / "case8_day0" / "scans", SLICES)
    assert problem(table, scan).startswith("has no row for the scan case8_day0")


def test_two_rows_of_one_slice_and_organ_are_refused(scan, table):
    doubled = row(table, "case7_day3_slice_0003,stomach")
    edited(table, doubled, f"{doubled}\n{doubled}")
    assert problem(table, scan) == "has two rows for case7_day3_slice_0003 and stomach"


def test_rows_without_image_are_listed_one_line_per_scan(tmp_path, scan):
    scans = {"case7_day3": MASKS, "case7_day9": MASKS, "case9_day0": MASKS}
    table = write_table(tmp_path / "train.csv", scans)
    other = write_stack(tmp_path / "case9" / "case9_day0" / "scans", SLICES[[0, 2]], numbers=[1, 3])
    (line,) = table_problems(table, [scan, other])
    expected = "has rows for case9_day0 without an image of 2 of its 4 slices, as case9_day0_slice_0002"
    assert line.startswith(f"{table}: {expected}")
    assert "\n" not in line


def test_scans_of_a_table_that_are_in_no_folder_are_listed(tmp_path, scan):
    table = write_table(tmp_path / "train.csv", {"case7_day3": MASKS, "case7_day9": MASKS})
    assert unlisted_scans(table, [scan]) == ["case7_day9"]
    assert unlisted_scans(table, []) == ["case7_day3", "case7_day9"]


def test_a_table_that_is_none_is_refused(tmp_path, scan):
    table = tmp_path / "train.csv"
    good = "case7_day3_slice_0001,stomach,\n"
    for text, expected in (
        ("id;class;segmentation\n", "has the columns id;class;segmentation, expected id, class"),
        ("id,class\n", "has the columns id, class, expected id, class and segmentation or predicted"),
        ("id,class,segmentation\n", "names 0 classes"),
        (f"id,class,segmentation\n{good}case7,stomach,\n", "line 3 has the id 'case7' and the class 'stomach'"),
        (f"id,class,segmentation\n{good}case7_day3_slice_0002,,\n", "line 3 has the id"),
        (f"id,class,segmentation\n{good}case7_slice_{'9' * 5000},stomach,\n", "line 3 has the id"),
        (f"id,class,segmentation\n{good}case7_day3_slice_0002,stomach\n", "line 3 has 2 fields, expected 3"),
        ("id,class,segmentation\n" + "".join(good.replace("stomach", f"o{n}") for n in range(9)), "names 9 classes"),
    ):
        table.write_text(text)
        assert problem(table, scan).startswith(expected)
    table.write_bytes(b"\xff\xfe\x00")
    assert problem(table, scan).startswith("cannot be read as a table")
    table.write_text("")
    assert problem(table, scan) == "is empty"
    table.unlink()
    assert problem(table, scan) == "no such file"


def test_a_table_needs_a_folder_of_slices_as_its_image(tmp_path, table):
    image = read_volume(save_png(tmp_path / "other.png", SLICES[0]))
    with pytest.raises(InputError, match="is no folder of slices"):
        read_mask_table(table, image)
    with pytest.raises(InputError, match="needs an image"):
        LoadVolumed("label")({"label": table})


def test_a_damaged_table_is_read_once_and_refused_each_time(scan, table, monkeypatch):
    sound = table.read_text()
    table.write_text(sound + "case7_day3_slice_0001\n")
    reads = []
    parse = mask_table._parse
    monkeypatch.setattr(mask_table, "_parse", lambda path: reads.append(path) or parse(path))
    first, second = (problem(table, scan) for _ in range(2))
    assert first == second == "line 14 has 1 fields, expected 3"
    assert reads == [table]
    table.write_text(sound)
    assert read_label(table, read_volume(scan)).data.any(), "what was mended is read again"
