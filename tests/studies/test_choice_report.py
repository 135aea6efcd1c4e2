"""What a study says of its choices, while it is unfinished and after."""

import csv
import json
import shutil

import pytest
from fake_bundle import CHOICES
from finished_runs import run_with_scores

from mtmed.studies.choice_report import choice_table, choice_values, collect_choices
from mtmed.studies.choose import choose
from mtmed.studies.job import ChoiceJob
from mtmed.studies.report import write_report
from mtmed.studies.study_folder import DONE, StudyFolder


@pytest.fixture
def folder(plan, tmp_path):
    return StudyFolder(tmp_path / "out", plan({**CHOICES, "folds": [0], "fractions": [12.5]}))


def finish(folder, key, value=None):
    folder.output_dir(key).mkdir(parents=True)
    (folder.job_folder(key) / DONE).write_text("{}")
    if value is not None:
        best = {"metric": "slice_dice", "value": value, "epoch": 1}
        (folder.output_dir(key) / "best.json").write_text(json.dumps(best))


def the_choice(folder):
    (job,) = [job for job in folder.plan.jobs.values() if isinstance(job, ChoiceJob)]
    return job


def train(folder, values):
    """Finish the trainings of a choice with these values per arm and seed; None is not finished."""
    for arm, own in values.items():
        for seed, value in enumerate(own):
            if value is not None:
                finish(folder, the_choice(folder).candidates[arm][seed], value)


def make(folder):
    job = the_choice(folder)
    finish(folder, job.key)
    runs = {arm: {seed: folder.output_dir(key) for seed, key in own.items()} for arm, own in job.candidates.items()}
    choose(job.step, job.compared, runs, folder.output_dir(job.key))


def test_an_unfinished_choice_shows_what_is_there(folder):
    (nothing,) = collect_choices(folder)
    assert choice_table([nothing])[1][0][-3:] == ["- ± -", "0 of 2", "open"]
    train(folder, {"joint": [0.4, 0.6], "pretrained": [0.7, None]})
    header, cells = choice_table(collect_choices(folder))
    assert header == ["fold", "labels", "arm", "slice Dice", "seeds", "result"]
    assert cells == [
        ["0", "12.5 %", "joint", "0.500 ± 0.141", "2 of 2", "open"],
        ["0", "12.5 %", "pretrained", "0.700 ± -", "1 of 2", "open"],
    ]


def test_a_training_without_a_value_counts_as_missing(folder):
    finish(folder, the_choice(folder).candidates["joint"][0])
    assert choice_table(collect_choices(folder))[1][0][-2] == "0 of 2"


def test_a_made_choice_names_its_winner_also_without_the_trainings(folder):
    train(folder, {"joint": [0.4, 0.6], "pretrained": [0.7, 0.5]})
    make(folder)
    before = collect_choices(folder)
    assert [cells[-1] for cells in choice_table(before)[1]] == ["", "chosen"]
    for path in folder.path.glob("jobs/train-*"):
        shutil.rmtree(path)
    assert collect_choices(folder) == before
    assert choice_values(before)[1] == {
        "choice": "mode",
        "step": "train",
        "metric": "slice_dice",
        "fold": 0,
        "fraction": 12.5,
        "arm": "pretrained",
        "mean": pytest.approx(0.6),
        "sd": pytest.approx(0.1 * 2**0.5),
        "chosen": True,
        "seeds": {"0": 0.7, "1": 0.5},
    }


def test_every_file_of_the_report_has_the_choices(folder, tmp_path):
    train(folder, {"joint": [0.4, 0.6], "pretrained": [0.7, 0.5]})
    make(folder)
    results = [run_with_scores(tmp_path, arm, [("a", "a", "liver", 0.5, 1.0)]) for arm in ("joint", "pretrained")]
    options = {"title": "Choices", "metrics": ["dice"], "output_dir": tmp_path / "report"}
    text = write_report(results, choices=collect_choices(folder), **options)
    assert "Choice: Joint or before" in text
    row = next(line for line in text.splitlines() if line.endswith("chosen"))
    assert " ".join(row.split()) == "0 12.5 % pretrained 0.600 ± 0.141 2 of 2 chosen"
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<h2>Choice: Joint or before</h2>" in page
    assert "<td>chosen</td>" in page
    values = json.loads((tmp_path / "report" / "table.json").read_text())["choices"]
    assert [one["chosen"] for one in values] == [False, True]
    with open(tmp_path / "report" / "choices.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(one["arm"], one["seed_1"], one["chosen"]) for one in rows] == [
        ("joint", "0.6", "False"),
        ("pretrained", "0.5", "True"),
    ]
    write_report(results, **options)
    assert not (tmp_path / "report" / "choices.csv").exists(), "a study without choices has no such file"
