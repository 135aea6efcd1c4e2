"""The study files of the two-stage method, planned at their own scale and at that of the demo."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from two_stage_runs import FIVE, TWO_STAGE

from mtmed.cli import main
from mtmed.metrics.names import METRIC_NAMES
from mtmed.studies import Plan, make_plan, read_study

STUDIES = TWO_STAGE / "studies"
DEMO = {"two_stage": "demo", "unlabelled": "demo", "further_arms": "further_demo"}
TASKS = {"two_stage": FIVE, "unlabelled": (*FIVE[:-1], "rotation")}
WEIGHTS = {"01": 0.1, "03": 0.3, "10": 1.0}
SCALES = [(name, scale) for name in DEMO for scale in ("published", "demo")]
REAL = ("acdc", "left_atrium")


def files(name: str, scale: str) -> list[Path]:
    return [STUDIES / f"{part}.json" for part in (name, *([DEMO[name]] if scale == "demo" else []))]


@cache
def planned(name: str, scale: str = "published") -> Plan:
    return make_plan(read_study(files(name, scale), ("data=/data/siim",) if scale == "published" else ()))


def given(plan: Plan, arm: str, step: str = "train") -> Mapping[str, Any]:
    return plan.overrides[arm][step]


def differences(plan: Plan, arm: str, other: str, step: str = "train") -> dict[str, Any]:
    """What an arm gives a step in place of what another gives it."""
    common = given(plan, other, step)
    return {key: value for key, value in given(plan, arm, step).items() if common.get(key) != value}


def trainings(plan: Plan) -> dict[str, int]:
    """Numbers of jobs per step."""
    steps = [job.step for job in plan.jobs.values()]
    return {step: steps.count(step) for step in dict.fromkeys(steps)}


# --- the method ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["published", "demo"])
@pytest.mark.parametrize("name", TASKS)
def test_each_task_is_tried_in_both_modes_and_the_better_is_chosen(name: str, scale: str) -> None:
    plan = planned(name, scale)
    for number, task in enumerate(TASKS[name]):
        # random numbers of its own, as plain networks have, so that an ensemble is one of as different ones
        own = {"task": task, **({"member": number} if number else {})}
        own |= {"unlabelled": True} if name == "unlabelled" else {}
        choice = plan.study.choices[task]
        joint = tuple(f"{task}_joint_{tenths}" for tenths in WEIGHTS)
        assert (choice.step, tuple(choice.among)) == ("train", (*joint, f"{task}_pretrained"))
        for arm, weight in zip(joint, WEIGHTS.values(), strict=True):
            assert differences(plan, arm, "plain") == {**own, "mode": "joint", "auxiliary_weight": weight}
        assert differences(plan, f"{task}_pretrained", "plain") == {**own, "mode": "pretrained"}


@pytest.mark.parametrize("scale", ["published", "demo"])
@pytest.mark.parametrize("name", TASKS)
def test_the_student_and_the_ensemble_read_the_chosen_networks_alone(name: str, scale: str) -> None:
    plan = planned(name, scale)
    chosen = [f"{{{task}.train}}/model.pt" for task in TASKS[name]]
    assert given(plan, "student", "distill")["teachers"] == chosen
    ensemble = given(plan, "teacher_ensemble", "test")
    assert [ensemble["checkpoint"], *ensemble["ensemble_with"]] == chosen
    for run in plan.runs:
        if run.arm == "student":
            assert run.jobs.keys() == {"distill", "test"}
            needed = {plan.jobs[key].step for key in plan.jobs[run.jobs["distill"]].needs.values()}
            assert needed == set(TASKS[name])


@pytest.mark.parametrize("scale", ["published", "demo"])
def test_plain_networks_take_the_place_of_the_chosen_ones_in_the_controls(scale: str) -> None:
    plan = planned("two_stage", scale)
    plain = ["{plain_same_budget.train}/model.pt", *(f"{{plain_{number}}}/model.pt" for number in range(1, 5))]
    assert given(plan, "plain_student", "distill")["teachers"] == plain
    ensemble = given(plan, "plain_ensemble", "test")
    assert [ensemble["checkpoint"], *ensemble["ensemble_with"]] == plain
    # trained as long as pre-training and fine-tuning together; their student as long as the other
    members = [given(plan, "plain_student", f"plain_{number}") for number in range(1, 5)]
    assert [member["member"] for member in members] == [1, 2, 3, 4]
    assert {(member["task"], member["budget"]) for member in members} == {("none", 2)}
    assert differences(plan, "plain_student", "student", "distill") == {"teachers": plain}
    for tenths, weight in WEIGHTS.items():
        summed = differences(plan, f"all_joint_{tenths}", "plain")
        assert summed == {"task": "all", "mode": "joint", "auxiliary_weight": weight}


@pytest.mark.parametrize("scale", ["published", "demo"])
def test_the_same_budget_is_twice_the_length_of_one_training(scale: str) -> None:
    plan = planned("two_stage", scale)
    assert differences(plan, "plain_same_budget", "plain") == {"budget": 2}


def test_every_network_is_trained_once_for_each_seed() -> None:
    plan = planned("two_stage")
    assert plan.study.seeds == (0, 1, 2)
    arms = len(FIVE) * 4 + 3 + 2
    assert {step: count / 3 for step, count in trainings(plan).items() if step not in plan.study.choices} == {
        **{f"plain_{number}": 1 for number in range(1, 5)},
        "train": arms,
        "distill": 2,
        # and two ensembles, two students, the best sum of all tasks
        "test": arms + 5,
    }
    # a choice is one for all seeds
    assert {trainings(plan)[name] for name in plan.study.choices} == {1}


def test_demo_trains_one_seed_and_small_networks() -> None:
    plan = planned("two_stage", "demo")
    assert plan.study.seeds == (0,)
    assert plan.configs["train"].get("image_size") == [64, 64]
    assert planned("two_stage").configs["train"].get("image_size") == [256, 256]


# --- unlabelled images ---------------------------------------------------------------------------------------------


def test_what_the_images_without_labels_add_to_the_student_is_an_arm_of_its_own() -> None:
    plan = planned("unlabelled")
    assert differences(plan, "student", "labelled_student", "distill") == {"unlabelled": True}
    assert not set(TASKS["unlabelled"]) & {"inner_distance", "outer_distance", "contour"}


# --- further arms -------------------------------------------------------------------------------------------------


def test_further_arms_change_what_names_them_only() -> None:
    plan = planned("further_arms")
    allowed = {"task", "mode", "unlabelled", "weighting", "aggregator"}
    for arm in plan.study.arms:
        changed = differences(plan, arm, "plain")
        assert changed.keys() <= allowed, arm
        assert ("unlabelled" in arm) == changed.get("unlabelled", False)
        if not arm.startswith(("plain", "all")):
            assert arm.startswith(f"{changed['task']}_")
            assert ("pretrained" in arm) == (changed.get("mode") == "pretrained")


def test_tasks_that_need_labels_have_no_unlabelled_arm() -> None:
    plan = planned("further_arms")
    tasks = {given(plan, arm)["task"] for arm in plan.study.arms if given(plan, arm).get("unlabelled")}
    assert tasks == {"autoencoding", "in_painting", "jigsaw", "momentum_contrast", "vicreg", "rotation"}


# --- both ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_what_is_chosen_on_validation_is_scored_on_test(name: str, scale: str) -> None:
    plan = planned(name, scale)
    assert (plan.study.score_step, plan.study.reference_arm) == ("test", "plain")
    assert set(plan.study.metrics) <= set(METRIC_NAMES)
    assert plan.study.pooled == ("image_auc",)
    for arm in plan.study.arms:
        scored = given(plan, arm, "test")
        assert scored["part"] == "test"
        assert scored["checkpoint"].endswith("/model.pt")


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_all_steps_divide_the_patients_alike(name: str, scale: str) -> None:
    plan = planned(name, scale)
    for option in ("shares", "split_key", "split_seed"):
        assert len({str(config.get(option)) for config in plan.configs.values()}) == 1
    assert len({str(one["dataset_dir"]) for steps in plan.overrides.values() for one in steps.values()}) == 1
    for run in plan.runs:
        own = [plan.jobs[key].overrides for key in run.jobs.values()]
        assert {(one["fold"], one["fraction"]) for one in own} == {(run.fold, run.fraction)}


@pytest.mark.parametrize(("name", "scale"), [*SCALES, *((name, "published") for name in REAL)])
def test_dry_run_lists_the_commands_in_an_order_that_works(
    name: str, scale: str, x_rays: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "study"
    words = ["study", *map(str, files(name, scale)), "--output", str(output), "--set", f"data={x_rays['data']}"]
    assert main([*words, "--dry-run"]) == 0
    commands = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert len(commands) == len(planned(name, scale).jobs)
    assert not output.exists()
    made: set[str] = set()
    for command in commands:
        needed = re.findall(r"([^\s='\"\[,]+?)(?:/seed\d+/train)?/model\.pt", command)
        needed += re.findall(r"--candidate \S+ \d+ (\S+)", command)
        assert set(needed) <= made
        made |= set(re.findall(r"--output_dir[= ](\S+)", command))


def test_every_study_file_is_looked_at() -> None:
    assert {file.stem for file in STUDIES.glob("*.json")} == {*DEMO, *DEMO.values(), *REAL}


@pytest.mark.parametrize("name", [*DEMO, *REAL])
def test_study_without_its_data_is_refused_before_anything_runs(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", str(STUDIES / f"{name}.json"), "--output", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "inputs::data: has no value; give it with --set data=VALUE" in line
    assert not (tmp_path / "out").exists()
