"""The job of a choice, and a study that makes one, with processes."""

import json
import os
import shutil
from pathlib import Path

import pytest
from fake_bundle import CHOICES

from mtmed.cli import main
from mtmed.errors import InputError
from mtmed.studies.choose import CHOICE, choose, mean_and_sd, read_best
from mtmed.studies.choose import main as choose_main
from mtmed.studies.study_folder import COMMAND, DONE, FAILED


def trained(folder, name, value, metric="dice"):
    run = folder / "jobs" / name / "run"
    run.mkdir(parents=True)
    (run / "best.json").write_text(json.dumps({"metric": metric, "value": value, "epoch": 3}))
    return run


@pytest.fixture
def trainings(tmp_path):
    """Output folders per arm and seed, with these values."""

    def make(values):
        return {
            arm: {seed: trained(tmp_path, f"train-{arm}-seed{seed}", value) for seed, value in enumerate(own)}
            for arm, own in values.items()
        }

    return make


def test_the_highest_mean_over_seeds_wins_for_all_seeds(trainings, tmp_path):
    candidates = trainings({"joint": [0.5, 0.6], "pretrained": [0.9, 0.1]})
    out = tmp_path / "jobs" / "choice" / "run"
    assert choose("mode", "train", candidates, out) == "joint"
    for seed in (0, 1):
        link = out / f"seed{seed}" / "train"
        assert link.resolve() == candidates["joint"][seed]
        assert not os.path.isabs(os.readlink(link))
    content = json.loads((out / CHOICE).read_text())
    assert content["winner"] == "joint"
    assert (content["choice"], content["step"], content["metric"]) == ("mode", "train", "dice")
    assert content["arms"]["pretrained"]["values"] == {"0": 0.9, "1": 0.1}
    assert content["arms"]["pretrained"]["mean"] == pytest.approx(0.5)
    assert content["arms"]["pretrained"]["sd"] == pytest.approx(0.8 / 2**0.5)


def test_the_links_hold_when_the_study_is_moved(trainings, tmp_path):
    choose("mode", "train", trainings({"joint": [0.5]}), tmp_path / "jobs" / "choice" / "run")
    shutil.move(tmp_path / "jobs", tmp_path / "moved")
    assert (tmp_path / "moved" / "choice" / "run" / "seed0" / "train" / "best.json").is_file()


def test_of_equal_arms_the_first_named_wins(trainings, tmp_path):
    candidates = trainings({"b": [0.1, 0.2, 0.3], "a": [0.3, 0.2, 0.1]})
    assert choose("mode", "train", candidates, tmp_path / "out") == "b"
    backwards = dict(reversed(candidates.items()))
    assert choose("mode", "train", backwards, tmp_path / "out") == "a", "links and file are replaced"
    assert (tmp_path / "out" / "seed0" / "train").resolve() == candidates["a"][0]


def test_one_seed_has_no_deviation(trainings, tmp_path):
    choose("mode", "train", trainings({"joint": [0.5]}), tmp_path / "out")
    assert json.loads((tmp_path / "out" / CHOICE).read_text())["arms"]["joint"]["sd"] is None
    assert str(mean_and_sd([])) == "(nan, nan)"


@pytest.mark.parametrize("value", [None, "NaN", [1]])
def test_a_training_without_a_value_is_named(tmp_path, value):
    run = trained(tmp_path, "train-joint-seed0", value)
    with pytest.raises(InputError, match="train-joint-seed0: has no best value of dice; validate at least once"):
        read_best(run)


def test_a_training_whose_file_is_missing_or_damaged_is_named(trainings, tmp_path, capsys):
    run = trainings({"joint": [0.5]})["joint"][0]
    words = ["--name", "mode", "--step", "train", "--output_dir", str(tmp_path / "out")]
    words += ["--candidate", "joint", "0", str(run)]
    (run / "best.json").write_text("{")
    assert choose_main(words) == 1
    (run / "best.json").unlink()
    assert choose_main(words) == 1
    damaged, missing = capsys.readouterr().err.splitlines()
    assert damaged.startswith("train-joint-seed0: has a best.json that cannot be read; delete ")
    assert missing.startswith("train-joint-seed0: wrote no best.json, so it cannot be compared; ")
    assert not (tmp_path / "out").exists()


def test_values_of_different_metrics_are_not_compared(trainings, tmp_path):
    candidates = trainings({"joint": [0.5]})
    candidates["other"] = {0: trained(tmp_path, "train-other-seed0", 0.9, metric="accuracy")}
    with pytest.raises(InputError, match="train-other-seed0: recorded accuracy, and others dice; compare arms with"):
        choose("mode", "train", candidates, tmp_path / "out")


@pytest.fixture
def study(fast, study_file, tmp_path, capsys):
    """Run the study of a choice with changes; what it printed on stderr, and its exit status."""

    def run(changes=None, *words):
        file = study_file({**CHOICES, "folds": [0], **(changes or {})})
        status = main(["study", str(file), "--output", str(tmp_path / "out"), "--workers", "4", *words])
        return capsys.readouterr(), status

    return run


def started(folder, pattern):
    return [path.read_text() for path in sorted(Path(folder).glob(f"jobs/{pattern}/run/attempts.txt"))]


def link(folder, seed=0):
    (choice,) = Path(folder).glob("jobs/choice-mode-*")
    return (choice / "run" / f"seed{seed}" / "train").resolve().parent.name


@pytest.mark.usefixtures("reported")
def test_a_study_chooses_and_goes_on_with_the_winner(study, tmp_path):
    out = tmp_path / "out"
    (_, err), status = study()
    assert status == 0, err
    assert link(out, 0).startswith("train-joint-fold0-fraction100-seed0-")
    assert link(out, 1).startswith("train-joint-fold0-fraction100-seed1-")
    given = [json.loads(path.read_text()) for path in sorted(out.glob("jobs/distill-*/run/words.json"))]
    assert [Path(json.loads(words["teachers"])[0]).parent.name for words in given] == ["train", "train"]
    done = [path.read_text() for path in out.glob(f"jobs/*/{DONE}")]
    (_, err), status = study()
    assert status == 0
    assert [path.read_text() for path in out.glob(f"jobs/*/{DONE}")] == done, "nothing ran again"


@pytest.mark.usefixtures("reported")
def test_a_training_that_cannot_be_compared_is_named_and_blocks_its_readers(study, tmp_path):
    (_, err), status = study({"arms::joint": {"train": {"learning_rate": 1}}})
    assert status == 1
    (failed,) = (tmp_path / "out").glob(f"jobs/choice-mode-*/{FAILED}")
    line = json.loads(failed.read_text())["last_line"]
    assert line.startswith("train-joint-fold0-fraction100-seed0-")
    assert "wrote no best.json" in line
    assert f"failed {failed.parent.name}: {line} (log: " in err
    assert f"which needs {failed.parent.name}" in err


@pytest.mark.usefixtures("reported")
def test_a_deleted_training_comes_back_only_for_a_new_reader(study, tmp_path):
    out = tmp_path / "out"
    study()
    winner = out / "jobs" / link(out)
    shutil.rmtree(winner)
    (_, err), status = study()
    assert (status, winner.exists()) == (0, False)
    assert "started" not in err
    more = {"distill": {"teachers": ["{mode.train}/last.pt"]}, "evaluate": {"checkpoint": "{distill}/last.pt"}}
    (_, err), status = study({"arms::more": more})
    assert status == 0, err
    assert (winner / DONE).is_file()
    assert link(out) == winner.name
    assert len(list(out.glob("jobs/choice-mode-*/outdated-*"))) == 1
    assert set(started(out, "train-pretrained-*")) == {"x"}, "what is still there did not run again"


@pytest.mark.usefixtures("reported")
def test_a_training_that_ran_again_makes_the_choice_and_its_readers_outdated(study, tmp_path):
    out = tmp_path / "out"
    study()
    (loser,) = out.glob("jobs/train-pretrained-fold0-fraction100-seed0-*")
    command = json.loads((loser / COMMAND).read_text())
    (loser / COMMAND).write_text(json.dumps({**command, "attempt": "another"}))
    (_, err), status = study()
    assert status == 0, err
    assert len(list(out.glob("jobs/choice-mode-*/outdated-*"))) == 1
    assert len(list(out.glob("jobs/distill-student-*/outdated-*"))) == 2
    assert not list(out.glob("jobs/evaluate-scratch-*/outdated-*"))


@pytest.mark.usefixtures("reported")
def test_a_choice_whose_links_are_lost_is_made_again_for_a_new_reader(study, tmp_path):
    out = tmp_path / "out"
    study()
    (choice,) = out.glob("jobs/choice-mode-*")
    before = link(out)
    for seed in (0, 1):
        (choice / "run" / f"seed{seed}" / "train").unlink()
    more = {"distill": {"teachers": ["{mode.train}/last.pt"]}, "evaluate": {"checkpoint": "{distill}/last.pt"}}
    (_, err), status = study({"arms::more": more})
    assert status == 0, err
    assert link(out) == before
    assert set(started(out, "train-*")) == {"x"}, "no training ran again"


def test_a_dry_run_lists_the_choice(study, tmp_path):
    (out, _), status = study(None, "--dry-run")
    assert status == 0
    lines = out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("# choice-mode-fold0-"))
    assert lines[place].endswith(": missing")
    assert " -m mtmed.studies.choose --name mode --step train --output_dir " in lines[place + 1]
    assert not (tmp_path / "out").exists()
