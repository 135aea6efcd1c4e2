"""The layouts of the SIIM-ACR X-rays, where one table has the masks and an image without a row is unlabelled."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from SimpleITK import GetImageFromArray, ImageFileWriter

from mtmed.cli import main
from mtmed.data import apply_layout, check_cases, load_cohort, load_manifest, match_layout, read_layout, write_manifest
from mtmed.data.check import CheckReport
from mtmed.data.slice_count import slices_of_cases
from mtmed.errors import InputError
from mtmed.transforms import encode_relative_run_lengths

SHAPE = (6, 8)
UID = "1.2.276.0.7230010.3.1"
IMAGES = tuple(f"{UID}.4.{number}" for number in range(1, 6))
MASK = np.zeros(SHAPE, bool)
MASK[2:4, 5:7] = True
ROWS = (
    f"{IMAGES[0]}, -1",
    f"{IMAGES[1]}, {encode_relative_run_lengths(MASK)}",
    f"{IMAGES[1]}, {encode_relative_run_lengths(np.roll(MASK, -2, axis=1))}",
    f"{IMAGES[3]}, -1",
)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE).astype(np.uint8)


def write_x_rays(folder: Path, *rows: str) -> Path:
    """Five X-rays; one positive, two negatives, two that the table does not name."""
    for number, name in enumerate(IMAGES):
        place = folder / "dicom-images-train" / f"{UID}.2.{number}" / f"{UID}.3.{number}"
        place.mkdir(parents=True)
        image = GetImageFromArray(pixels(number))
        image.SetMetaData("0008|0060", "CR")
        writer = ImageFileWriter()
        writer.SetFileName(str(place / f"{name}.dcm"))
        writer.Execute(image)
    (folder / "train-rle.csv").write_text("\n".join(["ImageId, EncodedPixels", *(rows or ROWS)]) + "\n")
    return folder


def check(folder: Path) -> CheckReport:
    report = check_cases(load_cohort(folder), include_test=True)
    assert not any("\n" in line for line in report.errors + report.notices)
    return report


def listed(folder: Path, *rows: str, **changes: object) -> Path:
    """X-rays with their manifest."""
    file = write_manifest(apply_layout(read_layout("siim_pneumothorax"), write_x_rays(folder, *rows)), folder)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def test_images_without_a_row_are_unlabelled_test_cases(tmp_path: Path) -> None:
    match = match_layout(read_layout("siim_pneumothorax"), write_x_rays(tmp_path))
    manifest = match.manifest
    assert [case.id for case in manifest.cases] == [IMAGES[0], IMAGES[1], IMAGES[3]]
    assert {case.label for case in manifest.cases} == {str(tmp_path / "train-rle.csv")}
    assert [(case.id, case.label) for case in manifest.test_cases] == [(IMAGES[2], None), (IMAGES[4], None)]
    assert [case.group for case in manifest.cases] == [f"{UID}.2.{number}" for number in (0, 1, 3)]
    assert all(not case.metadata for case in manifest.cases)
    assert (manifest.modalities, manifest.overlapping) == (("CR",), True)
    assert manifest.label_names == {0: "background", 1: "pneumothorax"}
    assert match.unlabelled == (IMAGES[2], IMAGES[4])
    assert match.notices == (f"2 image(s) without a label kept as test cases: {IMAGES[2]}, {IMAGES[4]}",)


@pytest.mark.parametrize("folder", ["", "dicom-images-train"])
@pytest.mark.parametrize("table", ["stage_2_train.csv", "dicom-images-train/train-rle.csv"])
def test_the_table_may_be_of_either_stage_and_lie_with_the_images(tmp_path: Path, folder: str, table: str) -> None:
    (write_x_rays(tmp_path) / "train-rle.csv").rename(tmp_path / table)
    if folder and not table.startswith(folder):
        with pytest.raises(InputError, match="has images but no "):
            match_layout(read_layout("siim_pneumothorax"), tmp_path / folder)
        return
    manifest = match_layout(read_layout("siim_pneumothorax"), tmp_path / folder).manifest
    assert {case.label for case in manifest.cases} == {str(tmp_path / table)}
    assert len(manifest.cases) == 3


def test_two_tables_are_refused(tmp_path: Path) -> None:
    (write_x_rays(tmp_path) / "stage_2_train.csv").write_text("ImageId,EncodedPixels\na,-1\n")
    with pytest.raises(InputError, match="move one of the two away"):
        match_layout(read_layout("siim_pneumothorax"), tmp_path)


def test_images_of_the_first_stage_test_are_labelled_where_the_table_has_them(tmp_path: Path) -> None:
    write_x_rays(tmp_path)
    part = tmp_path / "dicom-images-test"
    part.mkdir()
    for number in (3, 4):
        (tmp_path / "dicom-images-train" / f"{UID}.2.{number}").rename(part / f"{UID}.2.{number}")
    manifest = match_layout(read_layout("siim_pneumothorax"), tmp_path).manifest
    assert {case.id for case in manifest.cases} == {IMAGES[0], IMAGES[1], IMAGES[3]}
    assert {case.id for case in manifest.test_cases} == {IMAGES[2], IMAGES[4]}


def test_a_table_that_cannot_be_read_stops_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_x_rays(tmp_path) / "train-rle.csv").write_text("ImageId, EncodedPixels\na,-1,3\n")
    assert main(["manifest", "siim_pneumothorax", str(tmp_path)]) == 1
    error = f"{tmp_path}/train-rle.csv: line 2 has 3 fields, expected 2; write the table again"
    assert error in capsys.readouterr().err
    assert not (tmp_path / "dataset.json").exists()


def test_the_commands_write_and_check_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "siim_pneumothorax", str(write_x_rays(tmp_path))]) == 0
    out = capsys.readouterr().out
    assert "3 labelled cases of 3 patients" in out
    assert "2 image(s) without a label kept as test cases" in out
    manifest = load_manifest(tmp_path)
    assert manifest == apply_layout(read_layout("siim_pneumothorax"), tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    assert "pneumothorax 1" in capsys.readouterr().out


def test_masks_are_counted_and_negatives_have_no_foreground(tmp_path: Path) -> None:
    report = check(listed(tmp_path))
    assert report.errors == []
    assert [facts.voxels for facts in report.cases[:3]] == [{0: 48}, {0: 40, 1: 8}, {0: 48}]
    assert [facts.shape for facts in report.cases] == [(8, 6, 1)] * 5
    keys = ", ".join(f"siim_pneumothorax/{IMAGES[number]}" for number in (0, 3))
    assert f"2 cases ({keys}): has no foreground" in report.notices


def test_rows_without_an_image_are_one_notice(tmp_path: Path) -> None:
    report = check(listed(tmp_path, *ROWS, "gone,-1", "lost,0 3", "lost,5 3"))
    assert report.errors == []
    notice = "siim_pneumothorax: train-rle.csv has rows for 2 images that no case lists, as gone"
    assert notice in report.notices


def test_a_labelled_case_without_a_row_and_a_contradiction_are_found_for_their_images(tmp_path: Path) -> None:
    listed(tmp_path)
    table = tmp_path / "train-rle.csv"
    table.write_text("\n".join(["ImageId, EncodedPixels", *ROWS[1:3], f"{IMAGES[1]},-1", ROWS[3]]) + "\n")
    report = check(tmp_path)
    assert [error.partition(": ")[2].partition(";")[0] for error in report.errors] == [
        f"has no row for {IMAGES[0]}, which is unlabelled then and not negative",
        f"says -1 (no pneumothorax) for {IMAGES[1]} beside a mask",
    ]


def test_what_is_wrong_with_the_table_is_said_once(tmp_path: Path) -> None:
    (listed(tmp_path) / "train-rle.csv").write_text("ImageId,EncodedPixels\nx\n")
    assert check(tmp_path).errors == [
        f"{tmp_path}/train-rle.csv: line 2 has 1 fields, expected 2; write the table again"
    ]


def test_labels_that_are_not_pneumothorax_are_refused(tmp_path: Path) -> None:
    (error,) = check(listed(tmp_path, labels={"0": "background", "1": "pneumothorax", "2": "tube"})).errors
    assert "has masks of pneumothorax, the labels of siim_pneumothorax are 1 pneumothorax, 2 tube" in error


def test_an_x_ray_counts_as_one_slice(tmp_path: Path) -> None:
    cohort = load_cohort(listed(tmp_path))
    assert slices_of_cases(cohort.cases) == 3


@pytest.mark.parametrize("folder", ["", "images"])
def test_png_copies_have_a_layout_of_their_own(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    for number, name in enumerate(IMAGES):
        Image.fromarray(pixels(number)).save(place / f"{name}.png")
    (tmp_path / "train-rle.csv").write_text("\n".join(["ImageId, EncodedPixels", *ROWS]) + "\n")
    manifest = match_layout(read_layout("siim_pneumothorax_png"), tmp_path).manifest
    assert [(case.id, case.group) for case in manifest.cases] == [(IMAGES[n], IMAGES[n]) for n in (0, 1, 3)]
    assert [case.id for case in manifest.test_cases] == [IMAGES[2], IMAGES[4]]
    write_manifest(manifest, tmp_path)
    report = check(tmp_path)
    assert report.errors == []
    assert report.cases[1].voxels == {0: 40, 1: 8}
