"""The demo cohort of abdominal MR: readable as the UW-Madison data, anatomically sensible, the same on every run."""

import csv
import json
import re
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtmed.data import load_cohort
from mtmed.data.check import check_cases
from mtmed.data.demo import demo_abdomen_mr
from mtmed.data.layout import match_layout, read_layout
from mtmed.errors import InputError

ORGANS = ["large_bowel", "small_bowel", "stomach"]
NAME = re.compile(r"slice_(\d{4})_(\d+)_(\d+)_(\d\.\d\d)_(\d\.\d\d)\.png")


@dataclass(frozen=True)
class Scan:
    """Slices (D, rows, columns) and masks (organs, D, rows, columns) as they lie in the files."""

    name: str
    grey: np.ndarray
    masks: np.ndarray

    def extent(self, organ: str) -> np.ndarray:
        """Positions of an organ's slices, 0 lowest, 1 highest."""
        return np.flatnonzero(self.masks[ORGANS.index(organ)].any((1, 2))) / (len(self.grey) - 1)


def mask(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Run lengths by a loop over their pixels: rows first, from 1."""
    flat = np.zeros(shape, bool).ravel()
    numbers = [int(field) for field in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start, start + length):
            flat[pixel - 1] = True
    return flat.reshape(shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(demo_abdomen_mr(tmp_path_factory.mktemp("mr")))


@pytest.fixture(scope="module")
def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "train.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def scans(folder: Path, table: list[dict[str, str]]) -> list[Scan]:
    texts = {(row["id"], row["class"]): row["segmentation"] for row in table}
    found = []
    for place in sorted(folder.glob("train/*/*/scans")):
        name = place.parent.name
        grey = np.stack([np.asarray(Image.open(path)) for path in sorted(place.iterdir())])
        masks = [
            [mask(texts[f"{name}_slice_{index + 1:04d}", organ], one.shape) for index, one in enumerate(grey)]
            for organ in ORGANS
        ]
        found.append(Scan(name, grey, np.array(masks)))
    return found


def test_same_seed_gives_the_same_files_whatever_the_number_of_patients_and_another_seed_does_not(
    folder: Path, tmp_path: Path
) -> None:
    again = Path(demo_abdomen_mr(tmp_path / "a", patients=1))
    files = sorted(file.relative_to(again) for file in again.rglob("*.png"))
    assert len(files) > 60
    for file in files:
        assert (again / file).read_bytes() == (folder / file).read_bytes(), file
    assert (folder / "train.csv").read_text().startswith((again / "train.csv").read_text())
    other = Path(demo_abdomen_mr(tmp_path / "b", seed=4, patients=1))
    assert (other / "train.csv").read_text() != (again / "train.csv").read_text()


@pytest.mark.parametrize(("option", "value"), [("patients", 0), ("patients", 101), ("seed", -1)])
def test_options_out_of_range_are_refused(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{option}: is {value}"):
        demo_abdomen_mr(tmp_path, **{option: value})
    assert not list(tmp_path.iterdir())


def test_cohort_passes_the_check_and_is_small(folder: Path) -> None:
    features = ["slice_position", "case_number", "day_number", "pixel_height", "image_width"]
    report = check_cases(load_cohort(folder), include_test=True, features=features)
    assert (report.errors, report.notices) == ([], [])
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 10e6


def test_manifest_says_whose_each_scan_is_and_on_which_day(folder: Path) -> None:
    (manifest,) = load_cohort(folder).manifests
    assert manifest.overlapping
    assert manifest.label_names == {0: "background", 1: "large_bowel", 2: "small_bowel", 4: "stomach"}
    assert len(manifest.cases) == 15
    assert len(manifest.test_cases) == 2
    for case in (*manifest.cases, *manifest.test_cases):
        numbers = case.metadata["case_number"], case.metadata["day_number"]
        assert case.id == "case{}_day{}".format(*numbers)
        assert (case.group, case.visit) == (f"case{numbers[0]}", f"day{numbers[1]}")
        assert case.image[0].endswith(f"/{case.group}/{case.id}/scans")
        assert (case.label is None) == (case in manifest.test_cases)
    visits = [len(list(own)) for _, own in groupby(manifest.cases, key=lambda case: case.group)]
    assert visits == 5 * [1, 2]


def test_the_layout_of_the_real_data_finds_the_same_cases(folder: Path) -> None:
    (ours,) = load_cohort(folder).manifests
    match = match_layout(read_layout("uw_madison"), folder)
    found = match.manifest
    assert match.notices == ()
    assert (found.label_names, found.modalities) == (ours.label_names, ours.modalities)
    assert found.overlapping == ours.overlapping
    for mine, theirs in ((ours.cases, found.cases), (ours.test_cases, found.test_cases)):
        assert [replace(case, dataset="") for case in mine] == [replace(case, dataset="") for case in theirs]


def test_slices_are_named_by_their_size_and_have_sixteen_bits(folder: Path) -> None:
    grids = set()
    for place in folder.glob("t*/*/*/scans"):
        found = [NAME.fullmatch(path.name) for path in sorted(place.iterdir())]
        assert all(found)
        assert [int(name[1]) for name in found] == list(range(1, len(found) + 1))
        assert 24 <= len(found) <= 36
        (grid,) = {name.groups()[1:] for name in found}
        first = Image.open(min(place.iterdir()))
        assert first.mode == "I;16"
        assert first.size == (int(grid[0]), int(grid[1]))
        assert grid[2] == grid[3]
        grids.add(grid)
    assert grids == {("96", "80", "3.50", "3.50"), ("88", "96", "3.65", "3.65")}


def test_table_has_three_rows_per_slice_and_no_others(folder: Path, table: list[dict[str, str]]) -> None:
    slices = [
        f"{path.parent.parent.name}_slice_{NAME.fullmatch(path.name)[1]}"
        for path in sorted(folder.glob("train/*/*/scans/*"))
    ]
    assert sorted((row["id"], row["class"]) for row in table) == [(one, organ) for one in slices for organ in ORGANS]


def test_organs_depend_on_the_height_of_the_slice(scans: list[Scan]) -> None:
    for scan in scans:
        empty = ~scan.masks.any((0, 2, 3))
        assert empty[:2].all()
        assert empty[-2:].all()
        large, small, stomach = (scan.extent(organ).mean() for organ in ORGANS)
        assert stomach > large > small
        assert all(scan.masks[index].sum() > 800 for index in range(3))


def test_outlines_overlap_in_every_scan_but_not_much(scans: list[Scan]) -> None:
    for scan in scans:
        several = (scan.masks.sum(0) > 1).sum()
        assert 20 < several < 0.15 * scan.masks.any(0).sum(), scan.name


def test_left_is_right_on_the_picture_and_the_back_is_down(scans: list[Scan]) -> None:
    for scan in scans:
        body = np.argwhere(scan.grey > 300)[:, 1:].mean(0)
        stomach = np.argwhere(scan.masks[2])[:, 1:].mean(0)
        assert stomach[1] > body[1] + 4
        assert stomach[0] < body[0]


def test_a_person_looks_more_like_itself_than_like_others(scans: list[Scan]) -> None:
    volumes = {scan.name: scan.masks.sum((1, 2, 3)) / len(scan.grey) for scan in scans}
    pairs = [(a, b) for a in volumes for b in volumes if a < b]
    apart = {pair: np.abs(np.log(volumes[pair[0]] / volumes[pair[1]])).mean() for pair in pairs}
    same = [value for (a, b), value in apart.items() if a.split("_")[0] == b.split("_")[0]]
    others = [value for (a, b), value in apart.items() if a.split("_")[0] != b.split("_")[0]]
    assert len(same) == 5
    assert 0 < np.mean(same) < 0.8 * np.mean(others)


def test_manifest_counts_its_rows(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    assert (manifest["numTraining"], manifest["numTest"]) == (len(manifest["training"]), len(manifest["test"]))
    assert {row["label"] for row in manifest["training"]} == {"./train.csv"}
