"""Killed in either training of the kidney bundle and started again, a run ends as if nothing had happened."""

import csv
import random
import signal

import pytest
from launching import Launcher, run_facts
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# enough to be killed twice; an epoch of three steps is shorter in pre-training
STEPS = {"pretrain": 24, "train": 12}


@pytest.fixture(scope="module")
def launcher():
    started = Launcher()
    yield started
    started.close()


@pytest.fixture
def words(siamese_config, siamese_options, arguments, pretrained_siamese, tmp_path):
    """The command of a stage into a folder."""

    def make(stage, name):
        more = {"pretrained": str(pretrained_siamese / "encoder.pt")} if stage == "train" else {}
        length = {"epochs": STEPS[stage] // 3, "iterations_per_epoch": 3, "val_interval": 2}
        given = siamese_options(stage, output_dir=str(tmp_path / name), **length, **more)
        return ["run", "--config_file", str(siamese_config(stage)), *arguments(given)]

    return make


# in CI runs are killed at random moments instead: tests/reliability/test_random_kills.py
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "train"])
def test_killed_run_ends_bit_identical(stage, launcher, words, tmp_path):
    assert launcher.run(words(stage, "whole"), tmp_path / "whole.txt") == 0, (tmp_path / "whole.txt").read_text()
    log, delays = tmp_path / "killed.txt", random.Random(stage)
    for lines in (2, 1):
        status = launcher.run(words(stage, "killed"), log, kill_after=lines, delay=delays.uniform(0, 0.05))
        assert status == -signal.SIGKILL, log.read_text()
    assert launcher.run(words(stage, "killed"), log) == 0, log.read_text()
    text = log.read_text()
    assert text.count("Continuing at epoch") == 2
    assert "Not bit-identical" not in text
    assert "Traceback" not in text
    assert run_facts(tmp_path / "killed") == run_facts(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "killed").glob(".*")] == [".run.lock"]
    rows = list(csv.DictReader((tmp_path / "killed" / "losses.csv").open(newline="")))
    assert [int(row["iteration"]) for row in rows] == list(range(1, STEPS[stage] + 1))
    if stage == "train":
        assert_weights_move_linearly(tmp_path / "killed", rows)


def assert_weights_move_linearly(folder, rows):
    """A resumed run goes on with the weights of its step, in the loss and in what TensorBoard shows."""
    ends = {"cross_entropy": (0.6, 0.2), "dice": (0.4, 0.8), "reconstruction": (0.1, 0.1)}

    def weight(name, step):
        start, end = ends[name]
        return start + (end - start) * step / (STEPS["train"] - 1)

    for row in rows:
        step = int(row["iteration"]) - 1
        total = sum(weight(name, step) * float(row[name]) for name in ends)
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)
    events = EventAccumulator(str(folder)).Reload()
    for name in ends:
        shown = {event.step: event.value for event in events.Scalars(f"weight/{name}")}
        assert shown == pytest.approx({step: weight(name, step - 1) for step in range(1, STEPS["train"] + 1)}, rel=1e-5)


def test_finished_run_says_so(pretrained_siamese, pretrain_siamese, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in pretrained_siamese.iterdir()}
    with pytest.raises(SystemExit) as ended:
        pretrain_siamese(output_dir=str(pretrained_siamese))
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "This run is finished" in said
    assert f"--pretrained {pretrained_siamese}/encoder.pt" in said
    assert {path.name: path.stat().st_mtime_ns for path in pretrained_siamese.iterdir()} == before
