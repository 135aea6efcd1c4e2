"""The study files of the GI tract paper, planned as published and run at a small scale."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from gi_tract_runs import GI_TRACT, TINY_GI_TRACT
from PIL import Image

from mtmed.cli import main
from mtmed.metrics.names import METRIC_NAMES
from mtmed.networks.weights import load_weights
from mtmed.studies import Plan, make_plan, read_study

STUDIES = GI_TRACT / "studies"
FILES = {
    "patient": ("patient",),
    "patient_day": ("patient", "patient_day"),
    "further_arms": ("further_arms",),
}
DEMO = {"patient": "demo", "patient_day": "demo", "further_arms": "further_demo"}
ON_VALIDATION = ("small_unet", "big_unet", "position", "contrast", "film")
ON_TEST = ("small_unet", "contrast", "film")
FURTHER = (
    "small_unet",
    "contrast_1_to_9",
    "contrast_1_to_1",
    "contrast_sampling_alone",
    "contrast_decaying",
    "contrast_random",
    "contrast_gradient_similarity",
    "contrast_augmented",
    "momentum_contrast",
    "position_1_to_1",
    "position_decaying",
    "deeplab",
    "big_unet",
    "big_unet_frozen",
    "big_unet_longer",
    "ensemble",
)
SET = ("data=/data/uw_madison", "imagenet=/data/resnet50.pth")


def files(name: str, *more: str) -> list[Path]:
    return [STUDIES / f"{part}.json" for part in (*FILES[name], *more)]


def planned(name: str, *more: str) -> Plan:
    return make_plan(read_study(files(name, *more), () if DEMO[name] in more else SET))


def given(plan: Plan, arm: str, step: str) -> Mapping[str, Any]:
    return plan.overrides[arm][step]


# --- the plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["patient", "patient_day"])
def test_five_models_are_scored_on_validation_and_three_on_test(name: str) -> None:
    plan = planned(name)
    study = plan.study
    assert (study.folds, study.fractions, study.seeds) == ((0,), (100,), (0, 1, 2))
    assert (study.score_step, study.also_scored, study.reference_arm) == ("validation", ("test",), "small_unet")
    arms = {step: {run.arm for run in plan.runs if step in run.jobs} for step in ("train", "validation", "test")}
    assert arms == {"train": set(ON_VALIDATION), "validation": set(ON_VALIDATION), "test": set(ON_TEST)}
    assert Counter(job.step for job in plan.jobs.values()) == {"train": 15, "validation": 15, "test": 9}
    assert {given(plan, arm, step)["part"] for arm in ON_TEST for step in ("validation", "test")} == {
        "validation",
        "test",
    }


@pytest.mark.parametrize("name", FILES)
def test_all_steps_divide_the_patients_alike(name: str) -> None:
    plan = planned(name)
    key = "patient_day" if name == "patient_day" else "patient"
    for run in plan.runs:
        values = {step: plan.jobs[job].overrides for step, job in run.jobs.items()}
        assert {one["split_key"] for one in values.values()} == {key}
        assert {one["dataset_dir"] for one in values.values()} == {"/data/uw_madison"}
        assert {one["fold"] for one in values.values()} == {run.fold}
        assert {one["seed"] for step, one in values.items() if step.startswith("train")} == {run.seed}
    for option in ("shares", "split_seed"):
        assert len({str(config.get(option)) for config in plan.configs.values()}) == 1


@pytest.mark.parametrize("name", FILES)
def test_trainings_have_the_published_settings(name: str) -> None:
    config = planned(name).configs["train"]
    assert (config.get("epochs"), config.get("batch_size"), config.get("image_size")) == (10, 32, [224, 224])
    assert (config.get("slice_offsets"), config.get("contrast_group")) == ([0, 0, 0], "patient")
    assert len(config.get("film_features")) == 7
    assert config.get("shares") == [70, 20, 10]


def test_what_is_scored_was_not_chosen_on_the_same_cases() -> None:
    plan = planned("patient")
    assert {given(plan, arm, "validation")["checkpoint"] for arm in ON_VALIDATION} == {"{train}/last.pt"}
    # the epoch may be chosen on validation for cases that are neither trained nor validated on
    assert {given(plan, arm, "test")["checkpoint"] for arm in ON_TEST} == {"{train}/model.pt"}


def test_five_models_differ_in_what_names_them_only() -> None:
    plan = planned("patient")
    common = given(plan, "small_unet", "train")
    extra = {
        arm: {key: value for key, value in given(plan, arm, "train").items() if common.get(key) != value}
        for arm in ON_VALIDATION
    }
    assert extra == {
        "small_unet": {},
        "big_unet": {"network": "big_unet", "imagenet_weights": "/data/resnet50.pth"},
        "position": {"auxiliary": "position"},
        "contrast": {"auxiliary": "contrast"},
        "film": {"film": True},
    }


def test_further_arms_train_shared_networks_once() -> None:
    plan = planned("further_arms")
    assert tuple(plan.study.arms) == FURTHER
    runs = {(run.arm, run.seed): run.jobs for run in plan.runs}
    assert len(runs) == 3 * len(FURTHER)
    for seed in plan.study.seeds:
        jobs = {arm: runs[arm, seed] for arm in FURTHER}
        assert jobs["ensemble"]["train"] == jobs["small_unet"]["train"]
        assert jobs["ensemble"]["train_contrast"] == jobs["contrast_1_to_9"]["train_contrast"]
        trained = {job for arm in FURTHER for step, job in jobs[arm].items() if step.startswith("train")}
        # each arm but the ensemble trains one network, FiLM is only its member
        assert len(trained) == len(FURTHER)


def test_ensemble_averages_three_trainings_of_its_own_split() -> None:
    plan = planned("further_arms")
    for step, file in (("validation", "last.pt"), ("test", "model.pt")):
        scored = given(plan, "ensemble", step)
        assert scored["checkpoint"] == f"{{train}}/{file}"
        assert scored["ensemble_with"] == [f"{{train_contrast}}/{file}", f"{{train_film}}/{file}"]
    assert given(plan, "ensemble", "train_contrast")["auxiliary"] == "contrast"
    assert given(plan, "ensemble", "train_film")["film"] is True
    for run in plan.runs:
        if run.arm == "ensemble":
            trainings = {job for step, job in run.jobs.items() if step.startswith("train")}
            assert len(trainings) == 3
            assert set(plan.needed_by(run.jobs["validation"])) == set(plan.needed_by(run.jobs["test"])) == trainings


@pytest.mark.parametrize("name", FILES)
def test_demo_scale_needs_nothing_of_the_user(name: str) -> None:
    plan = planned(name, DEMO[name])
    assert plan.study.seeds == (0,)
    assert plan.configs["train"].get("image_size") == [64, 64]
    for arm, steps in plan.overrides.items():
        for step, values in steps.items():
            assert "abdomen_mr" in str(values["dataset_dir"]), (arm, step)
            assert values.get("imagenet_weights") is None


@pytest.mark.parametrize("name", FILES)
def test_every_column_that_is_compared_has_a_name(name: str) -> None:
    assert set(planned(name).study.metrics) <= set(METRIC_NAMES)


def test_study_without_its_data_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", str(STUDIES / "patient.json"), "--output", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "inputs::data: has no value; give it with --set data=VALUE" in line
    assert not (tmp_path / "out").exists()


def test_dry_run_lists_the_commands_in_an_order_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "study"
    words = ["study", *map(str, files("further_arms")), "--dry-run", "--output", str(output)]
    assert main([*words, *(word for value in SET for word in ("--set", value))]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line for line in lines if not line.startswith("#")]
    assert len(commands) == 3 * 3 * len(FURTHER)  # a training, a validation and a test of each
    assert not output.exists()
    made: set[str] = set()
    for command in commands:
        needed = re.findall(r"([^\s='\"\[,]+)/(?:last|model)\.pt", command)
        assert {Path(folder).as_posix() for folder in needed} <= made
        made |= set(re.findall(r"--output_dir=(\S+)", command))


# --- a run --------------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def study(abdomens: dict[str, str], tmp_path: Path) -> Callable[..., Path]:
    """Run some arms of a study, tiny; gives its folder."""

    def run(name: str, *arms: str) -> Path:
        kept = {arm: planned(name).study.arms[arm] for arm in arms}
        overlay = {"inputs": {"data": abdomens["data"]}, "overrides::store_dir": abdomens["store"], "arms": kept}
        (tmp_path / "overlay.json").write_text(json.dumps(overlay))
        words = ["study", *map(str, [*files(name, DEMO[name]), tmp_path / "overlay.json"])]
        words += ["--output", str(tmp_path / "out"), "--workers", "2"]
        for key, value in TINY_GI_TRACT.items():
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        assert main(words) == 0
        return tmp_path / "out"

    return run


def scored(folder: Path, step: str) -> dict[str, set[str]]:
    """Patients that were scored in each arm."""
    found = {}
    for run in rows(folder / "runs.csv"):
        if run[step]:
            found[run["arm"]] = {row["group"] for row in rows(folder / run[step] / "run" / "scores.csv")}
    return found


@pytest.mark.slow
def test_validation_and_test_each_have_a_report(study: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = study("patient", "small_unet", "position", "film")
    said = capsys.readouterr().out
    assert "3 of 3 runs have scores" in said
    assert "2 of 2 runs have scores" in said
    assert f"report: {folder}\n" in said
    assert said.rstrip().endswith(f"report: {folder / 'test'}")
    assert {row["state"] for row in rows(folder / "runs.csv")} == {"finished"}
    for place, arms, step in (
        (folder, {"small_unet", "position", "film"}, "validation"),
        (folder / "test", {"small_unet", "film"}, "test"),
    ):
        means = rows(place / "table.csv")
        assert {row["arm"] for row in means} == arms
        assert {row["metric"] for row in means} == set(planned("patient").study.metrics)
        assert {row["against"] for row in rows(place / "comparisons.csv")} == {"small_unet"}
        report = (place / "report.html").read_text()
        assert f": {step}</" in report
        for picture in ("cases_100.png", "cases_100_zoom.png", "curves_100.png"):
            assert min(Image.open(place / picture).size) > 200
    # whoever is validated is neither trained on nor tested, and all arms see the same patients
    validated, tested = scored(folder, "validation"), scored(folder, "test")
    assert len({frozenset(patients) for patients in (*validated.values(), *tested.values())}) == 2
    assert not validated["film"] & tested["film"]
    seen = [
        load_weights(folder / run["train"] / "run" / "last.pt")["settings"]["trained_on"]
        for run in rows(folder / "runs.csv")
    ]
    assert all(one == seen[0] for one in seen)


@pytest.mark.slow
def test_ensemble_is_an_arm_like_the_others(study: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = study("further_arms", "small_unet", "contrast_1_to_9", "ensemble")
    assert capsys.readouterr().out.count("3 of 3 runs have scores") == 2
    runs = {row["arm"]: row for row in rows(folder / "runs.csv")}
    assert runs["ensemble"]["train"] == runs["small_unet"]["train"]
    assert runs["ensemble"]["train_contrast"] == runs["contrast_1_to_9"]["train_contrast"]
    assert len(list((folder / "jobs").glob("train*"))) == 3
    record = json.loads((folder / runs["ensemble"]["validation"] / "run" / "summary.json").read_text())["protocol"]
    assert [Path(path).name for path in record["ensemble_with"]] == ["last.pt", "last.pt"]
    assert {row["arm"] for row in rows(folder / "table.csv")} == {"small_unet", "contrast_1_to_9", "ensemble"}
