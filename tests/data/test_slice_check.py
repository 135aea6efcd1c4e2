"""Scans as folders of PNG slices with a table of masks: every fault is one line that names file and remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from png_cohort import HEIGHT, SCANS, SLICES, WIDTH, rewrite_table, scan_folder, slice_path, write_png_cohort

from mtmed.data.case import Case
from mtmed.data.check import CheckReport, check_cases
from mtmed.data.manifest import load_cohort

VOXELS = WIDTH * HEIGHT * SLICES


def check(folder: Path, **options: Any) -> CheckReport:
    report = check_cases(load_cohort(folder), **options)
    assert not any("\n" in line for line in report.errors + report.notices)
    return report


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    change(content)
    (folder / "dataset.json").write_text(json.dumps(content))


def test_a_sound_cohort_passes_and_counts_each_organ_of_a_voxel(tmp_path: Path) -> None:
    report = check(write_png_cohort(tmp_path))
    assert (report.errors, report.notices) == ([], [])
    facts = report.cases[0]
    assert facts.shape == (WIDTH, HEIGHT, SLICES)
    assert facts.spacing == pytest.approx((1.5, 1.63, 3.0))
    assert facts.voxels == {0: VOXELS - 7, 1: 5, 2: 2, 4: 1}


def test_a_row_without_an_image_is_found(tmp_path: Path) -> None:
    slice_path(write_png_cohort(tmp_path), SCANS[1], 3).unlink()
    slice_path(tmp_path, SCANS[1], 4).unlink()
    report = check(tmp_path)
    (error,) = report.errors
    assert error.startswith(f"{tmp_path}/train.csv: has rows for {SCANS[1]} without an image of 2 of its 4 slices, as")
    assert f"{SCANS[1]}_slice_0003" in error
    assert error.endswith("; add the images, or remove the rows")


def test_scans_that_only_the_table_has_are_a_notice(tmp_path: Path) -> None:
    change_manifest(write_png_cohort(tmp_path), lambda content: content["training"].pop(1))
    report = check(tmp_path)
    assert report.errors == []
    assert report.notices == [f"gut: train.csv has rows for 1 scan that no case lists, as {SCANS[1]}"]


def test_an_image_without_a_row_is_found(tmp_path: Path) -> None:
    rewrite_table(
        write_png_cohort(tmp_path),
        "".join(f"{SCANS[0]}_slice_0004,{organ},\n" for organ in ("large_bowel", "small_bowel", "stomach")),
        "",
    )
    (error,) = check(tmp_path).errors
    assert f"train.csv: has no row for {SCANS[0]}_slice_0004" in error


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        ("1 3 10", "3 fields, an odd number"),
        ("34 3", "from pixel 34 to 36"),
        ("1 3 3 2", "overlap"),
        ("1 3 x 2", "'x'"),
        ("0 3", "count from 1"),
    ],
)
def test_run_lengths_that_cannot_be_decoded_are_one_line_that_names_the_row(
    tmp_path: Path, runs: str, problem: str
) -> None:
    rewrite_table(
        write_png_cohort(tmp_path),
        f"{SCANS[2]}_slice_0002,large_bowel,1 3 10 2",
        f"{SCANS[2]}_slice_0002,large_bowel,{runs}",
    )
    (error,) = check(tmp_path).errors
    assert error.startswith(f"{tmp_path}/train.csv: {SCANS[2]}_slice_0002, large_bowel: run lengths ")
    assert problem in error


def test_two_rows_for_one_mask_are_found(tmp_path: Path) -> None:
    row = f"{SCANS[0]}_slice_0001,stomach,\n"
    rewrite_table(write_png_cohort(tmp_path), row, row + row)
    (error,) = check(tmp_path).errors
    assert f"has two rows for {SCANS[0]}_slice_0001" in error


def test_what_is_wrong_with_the_table_is_said_once(tmp_path: Path) -> None:
    rewrite_table(write_png_cohort(tmp_path), "id,class,segmentation", "id,organ,segmentation")
    (error,) = check(tmp_path).errors
    assert "has the columns id, organ, segmentation" in error
    (tmp_path / "train.csv").unlink()
    (error,) = check(tmp_path).errors
    assert error.startswith(f"{tmp_path}/train.csv: ")


def test_a_slice_whose_name_disagrees_about_the_size_is_found_and_the_table_not_blamed(tmp_path: Path) -> None:
    path = slice_path(write_png_cohort(tmp_path), SCANS[0], 2)
    path.rename(path.with_name("slice_0002_9_5_1.50_1.63.png"))
    (error,) = check(tmp_path).errors
    assert "slice_0002_9_5_1.50_1.63.png: is 7x5 pixels, its name says 9x5" in error


def test_width_and_height_swapped_in_a_name_are_a_notice(tmp_path: Path) -> None:
    folder = scan_folder(write_png_cohort(tmp_path), SCANS[0])
    for path in list(folder.iterdir()):
        path.rename(folder / f"{path.name[:10]}_5_7_1.63_1.50.png")
    report = check(tmp_path)
    assert report.errors == []
    (notice,) = report.notices
    assert notice.startswith(f"gut/{SCANS[0]}: gives height before width in the names of 4 of 4 slices, and so of the")
    assert report.cases[0].shape == (WIDTH, HEIGHT, SLICES)
    assert report.cases[0].spacing == pytest.approx((1.5, 1.63, 3.0))


def test_a_scan_without_any_mask_is_a_notice(tmp_path: Path) -> None:
    write_png_cohort(tmp_path)
    for organ, runs in (("large_bowel", "1 3 10 2"), ("small_bowel", "3 2"), ("stomach", "35 1")):
        rewrite_table(tmp_path, f"{SCANS[1]}_slice_0002,{organ},{runs}", f"{SCANS[1]}_slice_0002,{organ},")
    report = check(tmp_path)
    assert (report.errors, report.notices) == ([], [f"gut/{SCANS[1]}: has no foreground"])


def test_a_constant_slice_is_a_notice_and_a_constant_scan_an_error(tmp_path: Path) -> None:
    write_png_cohort(tmp_path)
    for number in range(1, SLICES + 1):
        Image.fromarray(np.full((HEIGHT, WIDTH), 5, np.uint16)).save(slice_path(tmp_path, SCANS[0], number))
    scan = Case("scan", (str(scan_folder(tmp_path, SCANS[0])),), None, "a", "gut")
    single = [Case(f"s{n}", (str(slice_path(tmp_path, SCANS[0], n)),), None, "b", "gut") for n in (1, 2)]
    report = check_cases([scan, *single])
    (error,) = report.errors
    assert error.startswith(f"{scan.images[0]}: all voxels are 5")
    (notice,) = report.notices
    assert "is one slice whose voxels are all 5" in notice


def test_a_damaged_slice_is_named(tmp_path: Path) -> None:
    path = slice_path(write_png_cohort(tmp_path), SCANS[0], 3)
    path.write_bytes(path.read_bytes()[:-20])
    (error,) = check(tmp_path).errors
    assert error == f"{path}: ends early; copy or download the file again"


def test_the_same_scan_twice_is_found(tmp_path: Path) -> None:
    write_png_cohort(tmp_path)
    for number in range(1, SLICES + 1):
        slice_path(tmp_path, SCANS[2], number).write_bytes(slice_path(tmp_path, SCANS[0], number).read_bytes())
    (error,) = check(tmp_path).errors
    assert f"{scan_folder(tmp_path, SCANS[2])}: has the same voxels as {scan_folder(tmp_path, SCANS[0])}" in error


class TestOrgans:
    def test_organs_of_the_table_must_be_the_bits_of_the_manifest(self, tmp_path: Path) -> None:
        labels = {"0": "background", "1": "stomach", "2": "small_bowel", "4": "large_bowel"}
        (error,) = check(write_png_cohort(tmp_path, labels=labels)).errors
        assert "has masks of large_bowel, small_bowel, stomach, the labels of gut are 1 stomach" in error
        assert '"1": "large_bowel", "2": "small_bowel", "4": "stomach"' in error

    def test_a_table_that_lacks_an_organ_is_not_taken_for_others(self, tmp_path: Path) -> None:
        write_png_cohort(tmp_path)
        lines = (tmp_path / "train.csv").read_text().splitlines()
        (tmp_path / "train.csv").write_text("\n".join(line for line in lines if "small_bowel" not in line) + "\n")
        (error,) = check(tmp_path).errors
        assert "has masks of large_bowel, stomach, the labels of gut are" in error

    def test_a_manifest_must_say_that_masks_overlap(self, tmp_path: Path) -> None:
        values, table = check(write_png_cohort(tmp_path, overlapping=False)).errors
        assert "label values 3 are not in the manifest" in values
        assert "holds masks that may overlap, which gut does not say" in table

    @pytest.mark.parametrize(("values", "problem"), [((1, 7, 6), None), ((1, 8), "label values 8"), ((5, 255), "255")])
    def test_values_of_packed_maps_are_sums_of_the_bits(
        self, tmp_path: Path, values: tuple[int, ...], problem: str | None
    ) -> None:
        folder = write_png_cohort(tmp_path)
        rows = []
        for number, scan in enumerate(SCANS):
            pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
            pixels[0, : len(values)] = values
            Image.fromarray(pixels).save(folder / f"mask{number}.png")
            image = slice_path(folder, scan, 2).relative_to(folder).as_posix()
            rows.append({"image": image, "label": f"mask{number}.png", "id": scan, "patient": scan})
        change_manifest(folder, lambda content: content.update(training=rows))
        report = check(folder)
        assert len(report.errors) == (3 if problem else 0)
        assert all(problem in error and "4 stomach and sums" in error for error in report.errors)
        if problem is None:
            assert report.cases[0].voxels == {0: HEIGHT * WIDTH - 3, 1: 2, 2: 2, 4: 2}


class TestFeatures:
    def test_numbers_that_all_cases_have_pass(self, tmp_path: Path) -> None:
        features = ["slice_position", "pixel_height", "image_width", "case_number", "day_number"]
        assert check(write_png_cohort(tmp_path), features=features).errors == []

    @pytest.mark.parametrize("value", [None, "9", True, float("nan")])
    def test_a_case_that_lacks_a_number_is_named(self, tmp_path: Path, value: object) -> None:
        change_manifest(
            write_png_cohort(tmp_path), lambda content: content["training"][1]["metadata"].update(day_number=value)
        )
        (error,) = check(tmp_path, features=["case_number", "day_number"]).errors
        assert error == (
            f"gut/{SCANS[1]}: has no number 'day_number' in its metadata; "
            "add it to 'metadata' in the manifest, or take 'day_number' out of the features"
        )
        assert check(tmp_path).errors == []

    def test_several_cases_are_one_line(self, tmp_path: Path) -> None:
        def remove(content: dict[str, Any]) -> None:
            for row in content["training"][1:]:
                del row["metadata"]

        change_manifest(write_png_cohort(tmp_path), remove)
        (error,) = check(tmp_path, features=["day_number"]).errors
        assert error.startswith(f"gut/{SCANS[1]} and 1 more: has no number 'day_number'")

    def test_a_number_that_no_case_has_is_answered_with_those_there_are(self, tmp_path: Path) -> None:
        (error,) = check(write_png_cohort(tmp_path), features=["age"]).errors
        assert error.startswith("feature age: is a number in the metadata of no case; use slice_position, ")
        assert "case_number, day_number, or add it" in error


@pytest.mark.real
def test_real_slices_with_masks_in_colours_are_counted_and_an_unknown_colour_is_named(real_data: Path) -> None:
    folder = real_data / "gi_tract_uwm_2d"
    names = {0: "background", 1: "stomach", 2: "large_bowel", 3: "small_bowel"}
    cases = [
        Case(path.stem, (str(path),), str(folder / "masks" / path.name), path.name.split("_")[0], "slices")
        for path in sorted((folder / "images").iterdir())
    ]
    report = check_cases(cases, label_names={"slices": names})
    assert report.notices == [
        f"25 cases ({', '.join(case.key for case in cases[:3])} and 22 more): declares no spacing, 1 mm is taken"
    ]
    violet = []
    for case, facts in zip(cases, report.cases, strict=True):
        red, green, blue = (np.asarray(Image.open(case.label)) > 127).transpose(2, 0, 1)
        counts = {
            1: (red & ~green & ~blue).sum(),
            2: (green & ~red).sum(),
            3: (red & green).sum(),
            5: (red & blue).sum(),
        }
        assert {value: facts.voxels.get(value, 0) for value in counts} == counts
        violet += [case.label] if counts[5] else []
    # a few masks have a colour that the source does not explain
    assert [error.split(";")[0] for error in report.errors] == [
        f"{path}: label values 5 are not in the manifest (0 background, 1 stomach, 2 large_bowel, 3 small_bowel)"
        for path in violet
    ]
    assert len(violet) == 5
