"""Scans as folders of slices are checked again when a slice, a part or a number that the network is told changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtmed.bundle import check_data
from mtmed.data import load_cohort
from mtmed.errors import InputError

SCANS = ("case1_day0", "case2_day3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table, rows = ["id,class,segmentation"], []
    for index, scan in enumerate(SCANS):
        place = tmp_path / scan / "scans"
        place.mkdir(parents=True)
        for number in (1, 2):
            pixels = np.random.default_rng([index, number]).integers(0, 900, (5, 6)).astype(np.uint16)
            Image.fromarray(pixels).save(place / f"slice_{number:04d}_6_5_1.50_1.50.png")
            table.append(f"{scan}_slice_{number:04d},stomach,3 4")
        row = {"image": f"{scan}/scans", "label": "train.csv", "id": scan, "patient": scan.split("_")[0]}
        rows.append({**row, "metadata": {"day_number": index}})
    (tmp_path / "train.csv").write_text("\n".join(table) + "\n")
    labels = {"0": "background", "1": "stomach"}
    content = {"name": "gut", "modality": {"0": "MR"}, "labels": labels, "overlapping": True, "training": rows}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def check(folder: Path, **options: Any) -> None:
    check_data(load_cohort(folder), output_dir=str(folder), **options)


def change_rows(folder: Path, change: Callable[[int, dict[str, Any]], object]) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    for number, row in enumerate(content["training"]):
        change(number, row)
    (folder / "dataset.json").write_text(json.dumps(content))


def test_unchanged_slices_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(folder, features=["day_number"])
    monkeypatch.setattr("mtmed.bundle.data_check.check_cases", None)
    check(folder, features=["day_number"])


def test_a_slice_that_changed_inside_its_folder_is_read_again(folder: Path) -> None:
    check(folder)
    (folder / SCANS[1] / "scans" / "slice_0002_6_5_1.50_1.50.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"slice_0002_6_5_1\.50_1\.50\.png: is empty"):
        check(folder)


def test_a_table_that_changed_is_read_again(folder: Path) -> None:
    check(folder)
    (folder / "train.csv").write_text((folder / "train.csv").read_text().replace("0002,stomach,3 4", "0002,stomach,3"))
    with pytest.raises(InputError, match=r"run lengths .*odd number"):
        check(folder)


def test_a_run_is_not_continued_after_a_slice_changed(folder: Path) -> None:
    check(folder)
    (folder / "checkpoint.pt").touch()
    pixels = np.arange(30, dtype=np.uint16).reshape(5, 6)
    Image.fromarray(pixels).save(folder / SCANS[0] / "scans" / "slice_0001_6_5_1.50_1.50.png")
    with pytest.raises(InputError, match="not those that this run began with"):
        check(folder)


def test_a_run_is_not_continued_with_other_parts_or_other_numbers_of_its_cases(folder: Path) -> None:
    parts = ("training", "validation")
    change_rows(folder, lambda number, row: row.update(part=parts[number]))
    check(folder, features=["day_number"])
    (folder / "checkpoint.pt").touch()
    check(folder, features=["day_number"])
    before = (folder / "dataset.json").read_text()
    change_rows(folder, lambda number, row: row.update(part=parts[1 - number]))
    with pytest.raises(InputError, match="not those that this run began with"):
        check(folder, features=["day_number"])
    (folder / "dataset.json").write_text(before)
    change_rows(folder, lambda number, row: row["metadata"].update(day_number=7))
    with pytest.raises(InputError, match="not those that this run began with"):
        check(folder, features=["day_number"])


def test_a_number_that_the_network_shall_be_told_must_be_known(folder: Path) -> None:
    change_rows(folder, lambda number, row: row.pop("metadata") if number else None)
    check(folder)
    # a check without features does not stand for one with them
    with pytest.raises(InputError, match=r"gut/case2_day3: has no number 'day_number' in its metadata; add it"):
        check(folder, features=["slice_position", "day_number"])
