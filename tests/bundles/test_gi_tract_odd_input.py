"""What is unusual about scans of slices but legal trains, and the log says what was made of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gi_tract_inputs import (
    Prepare,
    change_manifest,
    change_table,
    drop_slices,
    of_mask,
    options,
    repaint,
    scans,
    several,
    slices,
    spoil,
    table,
    with_name,
)
from gi_tract_runs import run_gi_tract, write_abdomens
from PIL import Image

from mtmed.cli import main
from mtmed.data import check_cases, load_cohort
from mtmed.networks.weights import load_weights

ALL = 7  # scans of a good cohort


def each_slice(change: Callable[[Path], Any], scan: int = 0) -> Prepare:
    """A good cohort with all slices of a scan changed."""
    return spoil(lambda folder: [change(path) for path in slices(folder, scan)])


def height_first(path: Path) -> None:
    """A name as some programs write it: 20 rows, 24 columns."""
    with_name(path, width=20, height=24)


def empty(*names: str) -> Prepare:
    """A good cohort in which some scans show no organ."""

    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**row, "segmentation": ""} if row["id"].startswith(names) else row for row in rows]

    return spoil(lambda folder: change_table(folder, change))


@dataclass(frozen=True)
class OddInput:
    """What is unusual but legal, and what the log says of it."""

    name: str
    prepare: Prepare
    said: str = ""
    options: dict[str, Any] = field(default_factory=dict)


ODD_INPUTS = (
    OddInput(
        "height before width in the names",
        each_slice(height_first),
        "Notice: Toy_GI/case101_day5: gives height before width in the names of 8 of 8 slices",
    ),
    OddInput("scan without foreground", empty("case101_day5"), "Notice: Toy_GI/case101_day5: has no foreground"),
    OddInput("nan for an empty mask", of_mask("nan")),
    OddInput("rows in another order", spoil(lambda f: change_table(f, lambda rows: rows[::-1]))),
    OddInput("scan of one slice", spoil(lambda f: drop_slices(f, 0, slice(1, None))), "", {"auxiliary": "position"}),
    OddInput(
        "slice that is missing",
        spoil(lambda f: drop_slices(f, 0, slice(3, 4))),
        "Notice: Toy_GI/case101_day5: lacks 1 of its slices (number 4); its neighbours are taken as adjacent",
    ),
    OddInput(
        "scans of several sizes",
        each_slice(lambda path: repaint(with_name(path, width=30), lambda pixels: np.pad(pixels, ((0, 0), (0, 6))))),
        "",
        {"film": True},
    ),
    OddInput(
        "scans of several depths", spoil(lambda f: drop_slices(f, 1, slice(5, None))), "", {"auxiliary": "contrast"}
    ),
    OddInput("slices of 8 bits", each_slice(lambda path: repaint(path, lambda pixels: (pixels // 8).astype(np.uint8)))),
    OddInput("one feature", spoil(lambda f: None), "", {"film": True, "film_features": ["case_number"]}),
    OddInput(
        "position that is asked for and not told",
        spoil(lambda f: None),
        "",
        {"film": True, "film_features": ["day_number", "pixel_width"], "auxiliary": "position"},
    ),
    OddInput(
        "rows of a scan that is not listed",
        spoil(lambda f: change_manifest(f, lambda content: content["training"].pop())),
        "Notice: Toy_GI: train.csv has rows for 1 scan that no case lists, as case105_day3",
    ),
)


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=lambda odd: odd.name)
def test_odd_but_legal_input_trains(odd: OddInput, tmp_path: Path) -> None:
    odd.prepare(tmp_path)
    given = {"epochs": 1, "iterations_per_epoch": 1, **odd.options}
    folder = run_gi_tract("train", options("train", tmp_path, given))
    assert odd.said in (folder / "log.txt").read_text()
    assert load_weights(folder / "model.pt")["settings"]["organs"] == ["large_bowel", "small_bowel", "stomach"]


def test_names_with_height_first_change_nothing_but_the_notice(tmp_path: Path) -> None:
    losses = []
    for name, prepare in (("good", spoil(lambda folder: None)), ("height first", several(spoil_all(height_first)))):
        folder = tmp_path / name
        folder.mkdir()
        prepare(folder)
        run = run_gi_tract("train", options("train", folder, {"epochs": 1, "film": True}))
        losses.append((run / "losses.csv").read_bytes())
    assert losses[0] == losses[1]


def spoil_all(change: Callable[[Path], Any]) -> Prepare:
    """A good cohort with all slices of all scans changed."""
    return spoil(lambda folder: [change(path) for number in range(ALL) for path in slices(folder, number)])


def test_scans_that_the_organisers_doubt_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_abdomens(tmp_path / "cohort", days={7: (0, 3), 9: (27,), 10: (1,), 11: (2,), 12: (4,)})
    file = tmp_path / "cohort" / "dataset.json"
    file.unlink()
    assert main(["manifest", "uw_madison", str(tmp_path / "cohort"), "--exclude-suspects"]) == 0
    assert "4 labelled cases of 4 patients, 1 test cases, 2 left out" in capsys.readouterr().out
    ids = [row["id"] for row in json.loads(file.read_text())["training"]]
    assert ids == ["case7_day3", "case10_day1", "case11_day2", "case12_day4"]
    folder = run_gi_tract("train", options("train", tmp_path, {"epochs": 1, "iterations_per_epoch": 1}))
    assert "train.csv has rows for 2 scans that no case lists, as case7_day0" in (folder / "log.txt").read_text()


def test_check_finds_on_its_own_what_training_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_abdomens(tmp_path / "cohort")
    assert main(["check", str(tmp_path / "cohort")]) == 0
    assert "0 errors" in capsys.readouterr().out
    of_mask("1 2 9")(tmp_path / "again")
    with Image.open(slices(tmp_path / "again", 1)[0]) as image:
        assert image.size == (24, 20)
    slices(tmp_path / "again", 1)[2].write_bytes(b"no image")
    assert main(["check", str(tmp_path / "again" / "cohort")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "case101_day5_slice_0001, large_bowel: run lengths have 3 fields" in lines[0]
    assert "slice_0003_24_20_3.50_3.50.png: is not a PNG file" in lines[1]
    report = check_cases(load_cohort(tmp_path / "again" / "cohort"), features=["day_number", "weight"])
    assert [line for line in report.errors if line not in lines] == [
        "feature weight: is a number in the metadata of no case; use slice_position, pixel_height, pixel_width, "
        "image_height, image_width, case_number, day_number, or add it to the manifest"
    ]
    assert table(tmp_path / "again").is_file()
    assert len(scans(tmp_path / "again")) == ALL
