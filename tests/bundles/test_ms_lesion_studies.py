"""The study files of the MS paper, planned as published and run at a small scale."""

import csv
import json
from collections import Counter

import pytest
from ms_lesion_runs import MS_LESION, TINY_MS

from mtmed.cli import main
from mtmed.metrics.names import LESION_METRICS
from mtmed.studies import make_plan, read_study

STUDIES = MS_LESION / "studies"
DEMO = STUDIES / "demo.json"
ARMS = {
    "table1": ("single_weighted_dice", "single", "multi_input", "multi_output"),
    "merged_lesions": ("out_of_fold", "in_sample", "ground_truth"),
}


def planned(name, *more):
    return make_plan(read_study([STUDIES / f"{name}.json", *more], () if more else ["data=/data/isbi"]))


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_cross_validated_by_patient_as_published(name):
    plan = planned(name)
    assert tuple(plan.study.arms) == ARMS[name]
    assert plan.study.reference_arm == ARMS[name][0]
    assert plan.study.folds == (0, 1, 2, 3, 4)
    assert Counter(job.step for job in plan.jobs.values()) == {"train": len(plan.runs), "evaluate": len(plan.runs)}
    assert len(plan.runs) == 5 * len(ARMS[name])
    train, evaluate = plan.configs["train"], plan.configs["evaluate"]
    assert train.get("split_key") == evaluate.get("split_key") == "patient"
    assert (train.get("patch_size"), train.get("learning_rate"), train.get("epochs")) == ([64, 64, 64], 0.0005, 100)
    for run in plan.runs:
        assert {plan.jobs[key].overrides["fold"] for key in run.jobs.values()} == {run.fold}
        assert {plan.jobs[key].overrides["dataset_dir"] for key in run.jobs.values()} == {"/data/isbi"}


def test_the_single_network_is_compared_with_the_papers_loss_and_with_the_common_one():
    given = {arm: steps["train"] for arm, steps in planned("table1").overrides.items()}
    assert {arm: values["variant"] for arm, values in given.items()} == {
        "single_weighted_dice": "single",
        "single": "single",
        "multi_input": "multi_input",
        "multi_output": "multi_output",
    }
    assert {arm: values.get("true_positive_rate_weight") for arm, values in given.items()} == {
        "single_weighted_dice": 0.0,
        "single": None,
        "multi_input": None,
        "multi_output": None,
    }
    assert planned("table1").configs["train"].get("true_positive_rate_weight") == 1.0


def test_the_control_changes_only_the_merged_lesions():
    given = {arm: steps["train"] for arm, steps in planned("merged_lesions").overrides.items()}
    assert {arm: values.pop("merged_lesions") for arm, values in given.items()} == {arm: arm for arm in given}
    assert [values["variant"] for values in given.values()] == ["multi_input"] * 3
    assert given["out_of_fold"] == given["in_sample"] == given["ground_truth"]


@pytest.mark.parametrize("name", ARMS)
def test_the_demo_scale_needs_nothing_of_the_user(name):
    plan = planned(name, DEMO)
    assert plan.study.folds == (0, 1)
    assert plan.configs["train"].get("spacing") == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("name", ARMS)
def test_the_scores_have_names(name):
    assert set(planned(name).study.metrics) <= set(LESION_METRICS)


@pytest.fixture
def study(brains, tmp_path):
    """Run a study with an overlay, tiny; gives its exit status and folder."""

    def run(name, overlay, **more):
        (tmp_path / "overlay.json").write_text(json.dumps(overlay))
        kept = {f"{key}_dir": brains[key] for key in ("store", "tissue", "rough")}
        given = {**TINY_MS, "epochs": 1, **kept, **more}
        words = ["study", str(STUDIES / f"{name}.json"), str(DEMO), str(tmp_path / "overlay.json")]
        words += ["--output", str(tmp_path / "out"), "--workers", "2"]
        for key, value in given.items():
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        return main(words), tmp_path / "out"

    return run


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_arms_and_two_folds_share_their_rough_networks(study, brains, tmp_path, capsys):
    overlay = {
        "arms": {arm: {"train": {"variant": arm}} for arm in ("multi_input", "multi_output")},
        "reference_arm": "multi_input",
    }
    rough = tmp_path / "rough"
    status, folder = study(
        "table1", overlay, data=brains["data"], merged_lesions="in_sample", tissue="files", rough_dir=str(rough)
    )
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "4 of 4 runs have scores" in out
    assert "\nlesion-wise true positive rate\n" in out
    runs = rows(folder / "runs.csv")
    assert [row["state"] for row in runs] == ["finished"] * 4
    # one rough network per fold, whichever arm trained it
    assert len(list(rough.glob("*/finished"))) == len(list(rough.glob("*/last.pt"))) == 2
    kept = {(run["fold"], (folder / run["train"] / "run" / "rough.pt").read_bytes()) for run in runs}
    assert len(kept) == 2
    # a patient's visits are scored in one fold, the same one in both arms
    patients = {
        (run["arm"], run["fold"]): {row["group"] for row in rows(folder / run["evaluate"] / "run" / "scores.csv")}
        for run in runs
    }
    assert patients["multi_input", "0"] == patients["multi_output", "0"]
    assert not patients["multi_input", "0"] & patients["multi_input", "1"]
    assert {row["undefined"] for row in rows(folder / "table.csv") if row["metric"] == "dice"} == {"0"}
    for picture in ("cases_100.png", "cases_100_zoom.png", "curves_100.png"):
        assert (folder / picture).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARMS)
def test_every_study_runs_at_the_demo_scale(name, study, capsys):
    tiny = {key: None for key in ("spacing", "patch_size", "network_def#features")}
    status, folder = study(name, {"folds": [0]}, **tiny)
    out, err = capsys.readouterr()
    assert status == 0, err
    assert {row["state"] for row in rows(folder / "runs.csv")} == {"finished"}
    assert f"{len(ARMS[name])} of {len(ARMS[name])} runs have scores" in out
