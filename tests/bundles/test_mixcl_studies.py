"""The study files of the MixCL paper, planned as published and run at a small scale."""

import csv
import json
from collections import Counter

import pytest
from running import BUNDLE

from mtmed.cli import main
from mtmed.errors import InputError
from mtmed.studies import make_plan, read_study

STUDIES = BUNDLE / "studies"
TABLES = ("table1_spleen", "table1_btcv", "table2_spleen", "table2_btcv")
DATA = ["data=/data/target", "pretraining_data=/data/ct"]


def planned(name, *more):
    return make_plan(read_study([STUDIES / f"{name}.json", *more], DATA if not more else ()))


@pytest.mark.parametrize(
    ("name", "fractions", "arms", "pretrainings"),
    [
        ("table1_spleen", (5, 15, 50, 100), 2, 1),
        ("table1_btcv", (15, 50, 100), 2, 1),
        ("table2_spleen", (30,), 5, 4),
        ("table2_btcv", (100,), 5, 4),
    ],
)
def test_the_tables_are_planned_as_published(name, fractions, arms, pretrainings):
    plan = planned(name)
    assert plan.study.fractions == fractions
    assert plan.study.reference_arm == "scratch"
    assert len(plan.runs) == 5 * len(fractions) * arms
    jobs = Counter(job.step for job in plan.jobs.values())
    assert jobs == {"pretrain": pretrainings, "train": len(plan.runs), "evaluate": len(plan.runs)}
    for step in ("pretrain", "train"):
        assert plan.configs[step].get("patch_size") == [96, 96, 96]
        assert plan.configs[step].get("network_def::hidden_size") == 768
    for run in plan.runs:
        train = plan.jobs[run.jobs["train"]]
        assert ("pretrained" in train.overrides) == (run.arm != "scratch")


def test_the_ablation_has_its_losses():
    losses = {
        arm: steps["pretrain"]["losses"] for arm, steps in planned("table2_btcv").overrides.items() if arm != "scratch"
    }
    assert losses == {
        "identity": ["identity"],
        "reconstruction": ["reconstruction"],
        "identity+label": ["identity", "label"],
        "identity+label+reconstruction": ["identity", "label", "reconstruction"],
    }


@pytest.mark.parametrize("name", TABLES)
def test_the_demo_scale_needs_nothing_of_the_user(name):
    plan = planned(name, STUDIES / "demo.json")
    assert plan.study.folds == (0, 1)
    assert plan.configs["train"].get("network_def::hidden_size") == 192


@pytest.mark.parametrize("name", TABLES)
def test_on_one_data_set_each_pre_training_keeps_to_the_patients_of_its_fine_tuning(name):
    file, overlay, data = STUDIES / f"{name}.json", STUDIES / "one_dataset.json", "data=/data/target"
    plan = make_plan(read_study([file, overlay], [data]))
    for run in plan.runs:
        assert (run.arm == "scratch") == ("pretrain" not in run.jobs)
        if run.arm != "scratch":
            pretrain, train = (plan.jobs[run.jobs[step]].overrides for step in ("pretrain", "train"))
            shared = ("dataset_dir", "fold", "fraction")
            assert [pretrain[key] for key in shared] == [train[key] for key in shared]
    with pytest.raises(InputError, match="reads the data that evaluate validates, the same cases for all folds"):
        make_plan(read_study([file], [data, "pretraining_data=/data/target"]))


@pytest.fixture
def small(options):
    """Words that make a study tiny."""

    def make(**more):
        given = {**options("finetune"), "epochs": 1, **more}
        del given["dataset_dir"]
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in given.items()}
        return [word for key, text in texts.items() for word in ("--set", f"{key}={text}")]

    return make


def rows(path):
    return list(csv.DictReader(path.open(newline="")))


@pytest.mark.slow
def test_two_arms_make_a_table(small, cohorts, tmp_path, capsys):
    overlay = tmp_path / "overlay.json"
    overlay.write_text(json.dumps({"folds": [1], "fractions": [100], "score::organs": ["liver", "spleen"]}))
    files = [str(STUDIES / "table1_spleen.json"), str(STUDIES / "demo.json"), str(overlay)]
    words = small(data=cohorts["organs"], pretraining_data=cohorts["partial"])
    status = main(["study", *files, "--output", str(tmp_path / "out"), "--workers", "2", *words])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "2 of 2 runs have scores" in out
    runs = rows(tmp_path / "out" / "runs.csv")
    assert [row["state"] for row in runs] == ["finished"] * 2
    table = rows(tmp_path / "out" / "table.csv")
    assert {(row["organ"], row["arm"]) for row in table} >= {
        (organ, arm) for organ in ("liver", "spleen") for arm in ("scratch", "mixcl")
    }
    # both arms are scored on the same half of the four patients
    scored = [{row["group"] for row in rows(tmp_path / "out" / run["evaluate"] / "run" / "scores.csv")} for run in runs]
    assert scored[0] == scored[1]
    assert len(scored[0]) == 2


@pytest.mark.slow
def test_two_arms_make_a_table_from_one_data_set(small, cohorts, tmp_path, capsys):
    overlay = tmp_path / "overlay.json"
    overlay.write_text(json.dumps({"folds": [1], "fractions": [50], "score::organs": ["liver", "spleen"]}))
    files = [str(STUDIES / f"{name}.json") for name in ("table1_spleen", "demo", "one_dataset")]
    words = small(data=cohorts["organs"])
    assert main(["study", *files, str(overlay), "--output", str(tmp_path / "out"), *words]) == 0
    assert "2 of 2 runs have scores" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_table_runs_at_the_demo_scale(name, small, tmp_path, capsys):
    overlay = tmp_path / "overlay.json"
    overlay.write_text(json.dumps({"folds": [0]}))
    files = [str(STUDIES / f"{name}.json"), str(STUDIES / "demo.json"), str(overlay)]
    status = main(["study", *files, "--output", str(tmp_path / "out"), "--workers", "2", *small()])
    out, err = capsys.readouterr()
    assert status == 0, err
    runs = rows(tmp_path / "out" / "runs.csv")
    assert {row["state"] for row in runs} == {"finished"}
    assert f"{len(runs)} of {len(runs)} runs have scores" in out
