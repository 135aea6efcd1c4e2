"""Curves of the arms as TensorBoard events."""

from pathlib import Path

import numpy as np
import pytest
from finished_runs import date_back
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.errors import InputError
from mtmed.studies.curves import Curve
from mtmed.studies.dice_curves import DiceCurves
from mtmed.studies.results import Result
from mtmed.studies.tensorboard import write_dice_events


def _dice(*runs):
    """(arm, fraction, seed, values), validated every 10 iterations."""
    return DiceCurves(
        {
            Result(arm, 0, fraction, seed, "finished"): Curve(10.0 * np.arange(1, len(values) + 1), np.array(values))
            for arm, fraction, seed, values in runs
        },
        (),
    )


def _read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_each_arm_and_fraction_has_a_folder_with_its_mean_and_its_moving_average(tmp_path):
    first, second = np.linspace(0.1, 0.8, 40), np.linspace(0.2, 0.6, 40)
    dice = _dice(("a", 100.0, 0, first), ("a", 100.0, 1, second), ("a", 12.5, 0, [0.5]), ("b", 100.0, 0, first))
    write_dice_events(dice, tmp_path / "curves")
    assert sorted(path.name for path in (tmp_path / "curves").iterdir()) == ["a-100%", "a-12.5%", "b-100%"]
    read = _read(tmp_path / "curves" / "a-100%")
    mean = (first + second) / 2
    assert sorted(read) == ["dice/mean", "dice/smoothed"]
    assert [step for step, _ in read["dice/mean"]] == list(range(10, 401, 10))
    assert [value for _, value in read["dice/mean"]] == pytest.approx(mean, abs=1e-6)
    expected = [mean[max(0, index - 1) : index + 1].mean() for index in range(40)]
    assert [value for _, value in read["dice/smoothed"]] == pytest.approx(expected, abs=1e-6)
    assert _read(tmp_path / "curves" / "a-12.5%") == {"dice/mean": [(10, 0.5)], "dice/smoothed": [(10, 0.5)]}


def test_a_later_report_replaces_the_events_and_nothing_else(tmp_path):
    folder = tmp_path / "curves"
    (tmp_path / "events.out.tfevents.1.beside").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "events.out.tfevents.1.other").touch()
    write_dice_events(
        _dice(("a", 100.0, 0, [0.1, 0.2, 0.3]), ("gone", 100.0, 0, [0.1]), ("kept", 5.0, 0, [0.1])), folder
    )
    (folder / "kept-5%" / "notes.txt").touch()
    (folder / "events.out.tfevents.1.above").touch()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    write_dice_events(_dice(("a", 100.0, 0, [0.4, 0.5])), folder)
    assert _read(folder / "a-100%")["dice/mean"] == [(10, pytest.approx(0.4)), (20, pytest.approx(0.5))]
    assert len(list((folder / "a-100%").iterdir())) == 1
    assert sorted(path.name for path in folder.iterdir()) == [
        "a-100%",
        "events.out.tfevents.1.above",
        "kept-5%",
        "link",
    ]
    assert [path.name for path in (folder / "kept-5%").iterdir()] == ["notes.txt"]
    assert (tmp_path / "elsewhere" / "events.out.tfevents.1.other").is_file()
    assert (tmp_path / "events.out.tfevents.1.beside").is_file()


def test_events_of_a_report_that_was_killed_are_hidden_by_the_next(tmp_path, monkeypatch):
    write_dice_events(_dice(("a", 100.0, 0, [0.1, 0.2, 0.3])), tmp_path)
    date_back(tmp_path / "a-100%")
    monkeypatch.setattr(Path, "unlink", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_dice_events(_dice(("a", 100.0, 0, [0.4, 0.5])), tmp_path)
    assert len(list((tmp_path / "a-100%").iterdir())) == 2
    assert _read(tmp_path / "a-100%")["dice/mean"] == [(10, pytest.approx(0.4)), (20, pytest.approx(0.5))]


def _interrupt(path, **_):
    raise KeyboardInterrupt


def test_any_name_of_an_arm_makes_a_folder_of_its_own(tmp_path):
    write_dice_events(_dice(("../a b", 100.0, 0, [0.1]), ("../a/b", 100.0, 0, [0.2])), tmp_path / "curves")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves"]
    assert sorted(path.name for path in (tmp_path / "curves").iterdir()) == [".._a_b-100%", ".._a_b-100%-2"]


def test_runs_that_cover_no_common_iteration_and_no_runs_write_nothing_to_read(tmp_path):
    write_dice_events(DiceCurves({}, ()), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    apart = DiceCurves(
        {
            Result("a", 0, 100.0, seed, "finished"): Curve(np.array([step]), np.array([0.5]))
            for seed, step in enumerate((10.0, 20.0))
        },
        (),
    )
    write_dice_events(apart, tmp_path / "apart")
    assert _read(tmp_path / "apart" / "a-100%") == {}


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "curves").write_text("a file")
    with pytest.raises(InputError, match="curves: cannot be written"):
        write_dice_events(_dice(("a", 100.0, 0, [0.1])), tmp_path / "curves")
