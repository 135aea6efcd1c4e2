"""The studies of hearts and of single slices: what their arms change, and that all of them are trained alike."""

import pytest
from gi_tract_runs import GI_TRACT

from mtmed.studies import Plan, make_plan, read_study

STUDIES = GI_TRACT / "studies"
ARMS = {
    "acdc": ("small_unet", "position", "contrast", "film", "big_unet"),
    "real_slices": ("small_unet", "film", "two_views"),
}
LENGTH = ("epochs", "iterations_per_epoch", "batch_size", "learning_rate", "image_size", "shares")


def planned(name: str) -> Plan:
    return make_plan(read_study([STUDIES / f"{name}.json"], ("data=/data/scans",)))


@pytest.mark.parametrize("name", ARMS)
def test_arms_are_trained_alike_and_scored_on_held_out_patients(name: str) -> None:
    plan = planned(name)
    assert tuple(plan.overrides) == ARMS[name]
    lengths = {tuple(str(steps["train"][key]) for key in LENGTH) for steps in plan.overrides.values()}
    assert len(lengths) == 1
    for steps in plan.overrides.values():
        assert steps["evaluate"]["checkpoint"] == "{train}/last.pt"
        assert steps["evaluate"].get("part", "validation") == "validation"
        assert steps["evaluate"]["shares"] == steps["train"]["shares"]


def test_groups_of_pairs_fit_into_the_shortest_scan_of_hearts() -> None:
    given = planned("acdc").overrides["contrast"]["train"]
    assert given["batch_size"] % (2 * given["pairs"]) == 0
    # six slices
    assert (6 - 2) // given.get("minimum_distance", 3) + 1 >= given["pairs"]


def test_every_patient_with_single_slices_is_held_out_once() -> None:
    study = read_study([STUDIES / "real_slices.json"], ("data=/data/slices",))
    validation = planned("real_slices").overrides["film"]["train"]["shares"][1]
    assert len(study.folds) * validation == 100
