"""One command finds a learning rate: a curve in the run folder, and nothing that a training would go on from."""

import csv
import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from gi_tract_inputs import options, spoil
from gi_tract_refusals import BadInput, assert_refused
from gi_tract_runs import VARIANTS, run_gi_tract
from PIL import Image

FILES = {
    *("config.json", "log.txt", "data_check.json"),
    *("learning_rate.csv", "learning_rate.json", "learning_rate.png"),
}
GOOD = spoil(lambda folder: None)


def find(folder: Path, **more: object) -> Path:
    """Find the rate of a tiny training with the overlay's own length."""
    given = options("train", folder, {"epochs": 1, "iterations_per_epoch": 30, **more})
    return run_gi_tract("train", given, "find_learning_rate")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished search."""
    folder = tmp_path_factory.mktemp("learning_rate")
    GOOD(folder)
    return find(folder)


def curve(folder: Path) -> list[tuple[float, float]]:
    with (folder / "learning_rate.csv").open(newline="") as file:
        return [(float(row["learning_rate"]), float(row["smoothed_loss"])) for row in csv.DictReader(file)]


def test_run_folder_has_the_curve_and_no_checkpoint(found: Path) -> None:
    assert {path.name for path in found.iterdir()} == FILES
    with Image.open(found / "learning_rate.png") as picture:
        assert min(picture.size) > 200
    assert not list(found.parent.rglob("*.tmp"))


def test_rate_grows_by_a_constant_factor_from_the_start_on(found: Path) -> None:
    rates = [rate for rate, _ in curve(found)]
    assert rates[0] == pytest.approx(1e-6, rel=0.7)  # Ignite's first step is taken before or after the first batch
    steps = [math.log(after / before) for before, after in pairwise(rates)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6)
    assert rates[-1] <= 1.0 + 1e-9


def test_suggestion_is_one_of_the_rates_and_the_log_says_what_to_do_with_it(found: Path) -> None:
    suggestion = json.loads((found / "learning_rate.json").read_text())["learning_rate"]
    rates = [rate for rate, _ in curve(found)]
    assert min(rates) <= suggestion <= max(rates)
    log = (found / "log.txt").read_text()
    assert f"The loss falls fastest at learning rate {suggestion:.2g}; " in log
    assert f"({found}/learning_rate.png)" in log
    assert log.rstrip().endswith("Give the rate that you choose to the training: --learning_rate RATE")


def test_same_command_finds_the_same_rate(found: Path) -> None:
    first = (found / "learning_rate.csv").read_bytes()
    again = find(found.parent, output_dir=str(found.parent / "again"))
    assert (again / "learning_rate.csv").read_bytes() == first


@pytest.mark.parametrize("variant", ["film", "contrast", "momentum_contrast"])
def test_rate_is_that_of_the_training_with_its_second_task(variant: str, found: Path) -> None:
    given = {**VARIANTS[variant], "output_dir": str(found.parent / variant), "iterations_per_epoch": 40}
    folder = find(found.parent, **given)
    assert {path.name for path in folder.iterdir()} == FILES
    assert curve(folder) != curve(found)[: len(curve(folder))]


def test_found_rate_trains(found: Path) -> None:
    suggestion = json.loads((found / "learning_rate.json").read_text())["learning_rate"]
    given = options("train", found.parent, {"learning_rate": suggestion, "epochs": 1})
    folder = run_gi_tract("train", {**given, "output_dir": str(found.parent / "trained")})
    assert (folder / "model.pt").is_file()


BAD = (
    BadInput(
        "range that is empty",
        ("learning rates: go from 1.0 to 0.1; give 0 < start < end",),
        {"start": 1.0, "end": 0.1},
        stage="find_learning_rate",
        files=frozenset({".run.lock", "config.json", "log.txt", "data_check.json"}),
    ),
    BadInput(
        "combination that no training takes",
        ("film: tells the network the slice position",),
        {"film": True, "auxiliary": "position"},
        stage="find_learning_rate",
    ),
    BadInput(
        "misspelt limit",
        ("strat: unknown option (from the command line); did you mean 'start'?",),
        {"strat": 1e-5},
        stage="find_learning_rate",
        files=frozenset(),
    ),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_options_end_with_one_line(bad: BadInput, tmp_path: Path) -> None:
    assert_refused(bad, tmp_path)
