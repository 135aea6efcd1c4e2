"""Killed and started again, a training of the GI tract bundle ends as if nothing had happened; where it stops too."""

import csv
import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gi_tract_runs import VARIANTS, run_gi_tract
from launching import Launcher, run_facts

from mtmed.networks.weights import load_checkpoint

# a rate of next to nothing: what still changes is the normalisation's statistics
NO_GAIN = {"epochs": 24, "iterations_per_epoch": 1, "learning_rate": 1e-12, "patience": 2}


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    started = Launcher()
    yield started
    started.close()


@pytest.fixture
def words(gi_tract_config: Any, gi_tract_options: Any, arguments: Any, tmp_path: Path) -> Callable[..., list[str]]:
    """The command of a training into a folder."""

    def make(name: str, **more: Any) -> list[str]:
        given = gi_tract_options("train", output_dir=str(tmp_path / name), **more)
        return ["run", "--config_file", str(gi_tract_config("train")), *arguments(given)]

    return make


def epochs(log: Path) -> list[int]:
    return [int(number) for number in re.findall(r"^epoch (\d+)/", log.read_text(), re.MULTILINE)]


# a weighting that looks at gradients, and one that is drawn at random, go on as well
RUNS = {
    "contrast": {**VARIANTS["contrast"], "weighting": "gradient_similarity", "augmentation": "contrast"},
    "momentum_contrast": {
        **VARIANTS["momentum_contrast"],
        "film": True,
        "film_features": ["day_number", "image_width"],
        "weighting": "random",
    },
}


# in CI runs are killed at random moments instead: tests/reliability/test_random_kills.py
@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_run_ends_bit_identical(name: str, launcher: Launcher, words: Any, tmp_path: Path) -> None:
    given = {**RUNS[name], "epochs": 4, "iterations_per_epoch": 3}
    assert launcher.run(words("whole", **given), tmp_path / "whole.txt") == 0, (tmp_path / "whole.txt").read_text()
    log, delay = tmp_path / "killed.txt", random.Random(name).uniform(0, 0.05)
    status = launcher.run(words("killed", **given), log, kill_after=1, delay=delay)
    assert status == -signal.SIGKILL, log.read_text()
    assert launcher.run(words("killed", **given), log) == 0, log.read_text()
    text = log.read_text()
    assert text.count("Continuing at epoch") == 1
    assert "Not bit-identical" not in text
    assert "Traceback" not in text
    assert run_facts(tmp_path / "killed") == run_facts(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "killed").glob(".*")] == [".run.lock"]
    with (tmp_path / "killed" / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == list(range(1, 13))


def test_run_without_gain_stops_and_a_killed_one_at_the_same_epoch(
    launcher: Launcher, words: Any, gi_tract_options: Any, tmp_path: Path, capsys: Any
) -> None:
    whole, killed = tmp_path / "whole.txt", tmp_path / "killed.txt"
    assert launcher.run(words("whole", **NO_GAIN), whole) == 0, whole.read_text()
    assert launcher.run(words("killed", **NO_GAIN), killed, kill_after=1) == -signal.SIGKILL, killed.read_text()
    assert launcher.run(words("killed", **NO_GAIN), killed) == 0, killed.read_text()
    (last,) = {epochs(log)[-1] for log in (whole, killed)}
    assert 3 <= last < 24
    checkpoint = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    assert (checkpoint["stopped"], checkpoint["epoch"]) == (True, last)
    assert checkpoint["best_metric_epoch"] == last - 2
    for log in (whole, killed):
        assert f"Stopped after epoch {last}: no better validation since epoch {last - 2}" in log.read_text()
        assert "inference.json --checkpoint" in log.read_text()
    assert run_facts(tmp_path / "killed") == run_facts(tmp_path / "whole")

    # what has stopped is finished, however long it might have been
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "whole").iterdir()}
    for length in (24, 30):
        given = gi_tract_options("train", **{**NO_GAIN, "epochs": length, "output_dir": str(tmp_path / "whole")})
        with pytest.raises(SystemExit) as ended:
            run_gi_tract("train", given)
        assert ended.value.code == 0
        assert "This run is finished" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "whole").iterdir()} == before
    given = gi_tract_options("evaluate", checkpoint=str(tmp_path / "whole" / "model.pt"), overlays=False)
    assert (run_gi_tract("evaluate", {**given, "output_dir": str(tmp_path / "out")}) / "scores.csv").is_file()


def test_run_without_patience_goes_on_to_its_end(train_gi_tract: Any) -> None:
    folder = train_gi_tract(**{**NO_GAIN, "patience": None, "epochs": 4})
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    assert (checkpoint["stopped"], checkpoint["epoch"]) == (False, 4)


def test_finished_run_says_so(trained_gi_tract: Any, train_gi_tract: Any, capsys: Any) -> None:
    folder = trained_gi_tract("plain")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(SystemExit) as ended:
        train_gi_tract(output_dir=str(folder))
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "This run is finished" in said
    assert f"inference.json --checkpoint {folder}/model.pt" in said
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
