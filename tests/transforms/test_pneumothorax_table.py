"""Tables of pneumothorax masks: their header, several rows of an image, negatives and what is unlabelled."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from x_ray_file import write_x_ray

from mtmed.errors import InputError
from mtmed.transforms import LoadVolumed, encode_relative_run_lengths, pneumothorax_table
from mtmed.transforms.pneumothorax_table import (
    PneumothoraxTable,
    is_pneumothorax_table,
    labelled_images,
    read_pneumothorax_table,
    unlisted_images,
)
from mtmed.transforms.reading import read_label, read_volume

HEADER = "ImageId, EncodedPixels"  # with the blank of the challenge's file
ROWS, COLUMNS = 5, 7
NAME = "1.2.276.0.7230010.3.1.4.8323329.5797"
MASKS = np.random.default_rng(5).random((2, ROWS, COLUMNS)) < 0.3


def write_table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "train-rle.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def x_ray(tmp_path: Path) -> Path:
    return write_x_ray(tmp_path / f"{NAME}.dcm", np.arange(ROWS * COLUMNS, dtype=np.uint8).reshape(ROWS, COLUMNS))


def problem(table: Path, image: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_label(table, read_volume(image))
    assert "\n" not in str(caught.value)
    assert caught.value.culprit.startswith(str(table))
    return caught.value.problem


@pytest.mark.parametrize("header", [HEADER, "ImageId,EncodedPixels", "more,ImageId ,EncodedPixels", "\ufeff" + HEADER])
def test_masks_of_all_rows_of_an_image_are_joined(tmp_path: Path, x_ray: Path, header: str) -> None:
    more = "x," if header.startswith("more") else ""
    rows = [f"{more}{NAME}, {encode_relative_run_lengths(mask)}" for mask in MASKS]
    table = write_table(tmp_path, rows[0], f"{more}other,-1", rows[1], header=header)
    image = read_volume(x_ray)
    label = read_label(table, image)
    assert (label.data.shape, label.data.dtype) == ((COLUMNS, ROWS, 1), np.uint8)
    np.testing.assert_array_equal(label.data[..., 0].T, MASKS[0] | MASKS[1])
    np.testing.assert_array_equal(label.affine, image.affine)
    assert (label.spacing, label.oriented) == (image.spacing, False)


@pytest.mark.parametrize("text", ["-1", " -1"])
def test_minus_one_is_a_negative_image(tmp_path: Path, x_ray: Path, text: str) -> None:
    table = write_table(tmp_path, f"{NAME},{text}")
    label = read_pneumothorax_table(table, read_volume(x_ray))
    assert label.data.shape == (COLUMNS, ROWS, 1)
    assert not label.data.any()
    assert labelled_images(table) == {NAME}


def test_a_png_copy_has_the_mask_of_its_name(tmp_path: Path) -> None:
    Image.fromarray(np.arange(ROWS * COLUMNS, dtype=np.uint8).reshape(ROWS, COLUMNS)).save(tmp_path / f"{NAME}.png")
    table = write_table(tmp_path, f"{NAME},{encode_relative_run_lengths(MASKS[0])}")
    loaded = LoadVolumed(["image", "label"])({"image": str(tmp_path / f"{NAME}.png"), "label": str(table)})
    np.testing.assert_array_equal(loaded["label"][0, ..., 0].T, MASKS[0])


def test_an_image_without_a_row_is_unlabelled_and_not_negative(tmp_path: Path, x_ray: Path) -> None:
    table = write_table(tmp_path, "other,-1")
    assert problem(table, x_ray) == f"has no row for {NAME}, which is unlabelled then and not negative"
    assert labelled_images(table) == {"other"}
    assert unlisted_images(table, [x_ray]) == ["other"]


def test_minus_one_beside_a_mask_is_refused_for_that_image_only(tmp_path: Path, x_ray: Path) -> None:
    table = write_table(tmp_path, f"{NAME},-1", "other,0 1", f"{NAME},3 1")
    assert problem(table, x_ray) == f"says -1 (no pneumothorax) for {NAME} beside a mask"
    other = write_x_ray(tmp_path / "other.dcm", np.zeros((ROWS, COLUMNS), np.uint8))
    assert read_label(table, read_volume(other)).data.sum() == 1


def test_a_mask_of_a_larger_image_is_refused(tmp_path: Path, x_ray: Path) -> None:
    table = write_table(tmp_path, f"{NAME},30 9")
    assert problem(table, x_ray) == (
        "run lengths have a gap of 30 and a run of 9 that lead out of the image of 7x5 = 35 pixels"
    )


def test_an_image_of_many_slices_is_refused(tmp_path: Path, x_ray: Path) -> None:
    table = write_table(tmp_path, f"{NAME},-1")
    volume = read_volume(x_ray)
    several = type(volume)(np.zeros((7, 5, 2)), volume.affine, volume.spacing, {}, volume.path)
    with pytest.raises(InputError, match="has masks of single images"):
        read_pneumothorax_table(table, several)


@pytest.mark.parametrize(
    ("rows", "header", "expected"),
    [
        ((f"{NAME},-1,2",), HEADER, "line 2 has 3 fields, expected 2"),
        (("a,-1", ",3 1"), HEADER, "line 3 has the image '' and the run lengths '3 1'"),
        (("a,",), HEADER, "line 2 has the image 'a' and the run lengths ''"),
        ((), HEADER, "has no row"),
        (("a,-1",), "ImageId,Pixels", "has the columns ImageId, Pixels, expected ImageId and EncodedPixels"),
        (("a,-1,-1",), HEADER + ",EncodedPixels", "has two columns encodedpixels"),
        (("a,-1", HEADER), HEADER, "line 3 has the names of the columns again"),
    ],
)
def test_a_table_that_is_none_is_refused(
    tmp_path: Path, x_ray: Path, rows: tuple[str, ...], header: str, expected: str
) -> None:
    assert problem(write_table(tmp_path, *rows, header=header), x_ray) == expected


def test_the_columns_tell_which_table_it_is(tmp_path: Path) -> None:
    assert is_pneumothorax_table(write_table(tmp_path, "a,-1"))
    assert not is_pneumothorax_table(write_table(tmp_path, "a,b,", header="id,class,segmentation"))
    assert not is_pneumothorax_table(tmp_path / "gone.csv")
    assert not is_pneumothorax_table(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert not is_pneumothorax_table(tmp_path / "binary.csv")


def test_a_table_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    rows = pneumothorax_table.table_rows
    monkeypatch.setattr(
        pneumothorax_table, "table_rows", lambda path, columns: reads.append(path) or rows(path, columns)
    )
    table = write_table(tmp_path, "a,-1")
    assert PneumothoraxTable.read(table) is PneumothoraxTable.read(str(table))
    write_table(tmp_path, "a,-1", "b,0 4")
    assert PneumothoraxTable.read(table).masks == {"a": (), "b": ("0 4",)}
    assert reads == [table, table]
