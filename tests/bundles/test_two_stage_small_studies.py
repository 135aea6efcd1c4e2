"""The studies of real hearts and left atria: all arms are trained alike, and scored on patients that nothing saw."""

from typing import Any

import pytest
from two_stage_runs import FIVE, TWO_STAGE

from mtmed.studies import Plan, make_plan, read_study

STUDIES = TWO_STAGE / "studies"
TASKS = {"acdc": FIVE, "left_atrium": ("in_painting", "momentum_contrast", "inner_distance")}
LENGTH = ("epochs", "iterations_per_epoch", "batch_size", "learning_rate", "shares")
TRAINED = ("train", "distill", "plain_1", "plain_2")


def planned(name: str) -> Plan:
    return make_plan(read_study([STUDIES / f"{name}.json"], ("data=/data/scans",)))


def networks(arm: dict[str, Any]) -> list[str]:
    """What the scored step of an ensemble reads."""
    return [arm["test"]["checkpoint"], *arm["test"].get("ensemble_with", [])]


@pytest.mark.parametrize("name", TASKS)
def test_arms_are_trained_alike_and_scored_on_held_out_patients(name: str) -> None:
    plan = planned(name)
    trained = [steps[step] for steps in plan.overrides.values() for step in TRAINED if step in steps]
    assert len({tuple(str(steps[key]) for key in LENGTH) for steps in trained}) == 1
    for steps in plan.overrides.values():
        assert steps["test"]["part"] == "test"
        assert steps["test"]["shares"] == trained[0]["shares"]


@pytest.mark.parametrize("name", TASKS)
def test_the_student_and_its_control_have_as_many_teachers_as_there_are_tasks(name: str) -> None:
    overrides = planned(name).overrides
    chosen = [f"{{{task}.train}}/model.pt" for task in TASKS[name]]
    assert overrides["student"]["distill"]["teachers"] == chosen == networks(overrides["teacher_ensemble"])
    plain = networks(overrides["plain_ensemble"])
    assert plain[0] == "{plain_same_budget.train}/model.pt"
    assert overrides["plain_student"]["distill"]["teachers"] == plain
    assert len(set(plain)) == len(chosen)


@pytest.mark.parametrize("name", TASKS)
def test_each_plain_network_starts_as_a_teacher_does(name: str) -> None:
    overrides = planned(name).overrides
    ensemble = overrides["plain_ensemble"]
    plain = [overrides["plain_same_budget"]["train"], *(ensemble[f"plain_{k}"] for k in range(1, len(TASKS[name])))]
    for task, one in zip(TASKS[name], plain, strict=True):
        assert one["task"] == "none"
        assert one["budget"] == 2  # as pre-training and fine-tuning together
        for mode in [arm for arm in overrides if arm.startswith(f"{task}_")]:
            assert overrides[mode]["train"].get("member", 0) == one.get("member", 0)


@pytest.mark.parametrize("name", TASKS)
def test_both_modes_of_each_task_are_compared(name: str) -> None:
    study = read_study([STUDIES / f"{name}.json"], ("data=/data/scans",))
    overrides = planned(name).overrides
    assert set(study.choices) - {"all_tasks"} == set(TASKS[name])
    for task in TASKS[name]:
        choice = study.choices[task]
        among = [overrides[arm]["train"] for arm in choice.among]
        assert {arm["task"] for arm in among} == {task}
        assert {arm.get("mode", "joint") for arm in among} == {"joint", "pretrained"}
        assert not any(arm.get("unlabelled") for arm in among)


def test_images_without_labels_are_all_that_their_arms_add() -> None:
    overrides = planned("acdc").overrides
    arms = [arm for arm in overrides if arm.endswith("_unlabelled")]
    assert len(arms) == 4
    for arm in arms:
        other = overrides[arm.removesuffix("_unlabelled")]["train"]
        assert overrides[arm]["train"] == {**other, "unlabelled": True}


def test_three_of_five_hearts_are_labelled() -> None:
    study = read_study([STUDIES / "acdc.json"], ("data=/data/scans",))
    (fraction,) = study.fractions
    # of ten patients
    assert 10 * planned("acdc").overrides["plain"]["train"]["shares"][0] / 100 * fraction / 100 == 3
    assert len(study.seeds) == 3
