"""Stage 1 of the two-stage bundle: every task in both modes, what is handed on, and how losses are weighed."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from two_stage_runs import (
    FIVE,
    HEART_ORGANS,
    LOSS_OF,
    TASKS,
    TINY_3D,
    TINY_TWO_STAGE,
    losses_of,
    run_two_stage,
    tiny_two_stage,
)

from mtmed.bundle import patient_digests
from mtmed.data import load_cohort, split_parts
from mtmed.networks import load_network
from mtmed.networks.weights import load_checkpoint, load_weights

MAIN = {"cross_entropy": 0.5, "dice": 0.5}
# a run that learns nothing after its pre-training ends with the weights it began with
STILL = {"train#optimizer#lr": "$0.01 if @phase == 'pretraining' else 1e-12", "pretraining_epochs": 3}
NEEDS_TORCHJD = pytest.mark.skipif(importlib.util.find_spec("torchjd") is None, reason="torchjd is not installed")


def names_of(task: str) -> list[str]:
    """Auxiliary losses of a choice of `task`."""
    return [LOSS_OF[name] for name in {"none": (), "all": FIVE}.get(task, (task,))]


def columns(own: list[str], *, main: bool = True) -> list[str]:
    return ["iteration", "loss", *(MAIN if main else ()), *own, "learning_rate"]


def curve(folder: Path, tag: str) -> list[float]:
    return [event.value for event in EventAccumulator(str(folder)).Reload().Scalars(tag)]


def assert_total(folder: Path, weights: dict[str, float]) -> None:
    for row in losses_of(folder):
        assert row["loss"] == pytest.approx(sum(weight * row[name] for name, weight in weights.items()), rel=1e-5)


def assert_is_a_network(path: Path, size: tuple[int, ...], organs: int) -> None:
    """Of the segmentation alone: nothing of an auxiliary task is in the file."""
    network, _ = load_network(path)
    assert set(load_weights(path)["model"]) == set(network.state_dict())
    assert network.eval()(torch.rand(1, 1, *size)).shape == (1, organs, *size)


def parameters_of(path: Path) -> dict[str, torch.Tensor]:
    network, _ = load_network(path)
    return {name: value.detach() for name, value in network.named_parameters()}


# --- every task in both modes -------------------------------------------------------------------------------------


def mostly_slow(quick: Sequence[str], tasks: Sequence[str]) -> list[Any]:
    return [task if task in quick else pytest.param(task, marks=pytest.mark.slow) for task in tasks]


# five of them are in "all"
@pytest.mark.parametrize("task", mostly_slow(("none", "all", *set(TASKS) - set(FIVE)), ("none", "all", *TASKS)))
def test_a_task_beside_the_segmentation_has_its_losses(task: str, trained_two_stage: Any) -> None:
    folder = trained_two_stage(task)
    own = names_of(task)
    assert list(losses_of(folder)[0]) == columns(own)
    assert len(losses_of(folder)) == 4
    assert_total(folder, {**MAIN, **dict.fromkeys(own, 0.3)})
    assert_is_a_network(folder / "model.pt", (16, 16), 1)
    assert not (folder / "pretraining").exists()
    assert "inference.json --checkpoint" in (folder / "log.txt").read_text().splitlines()[-1]


@pytest.mark.parametrize("task", mostly_slow(("in_painting", "momentum_contrast"), ("all", *TASKS)))
def test_a_task_before_the_segmentation_is_alone_there(task: str, trained_two_stage: Any) -> None:
    folder = trained_two_stage(task, "pretrained")
    own = names_of(task)
    assert list(losses_of(folder / "pretraining")[0]) == columns(own, main=False)
    assert_total(folder / "pretraining", dict.fromkeys(own, 1.0))
    assert list(losses_of(folder)[0]) == columns([])
    assert_total(folder, MAIN)
    assert_is_a_network(folder / "model.pt", (16, 16), 1)
    settings = load_weights(folder / "model.pt")["settings"]
    assert (settings["task"], settings["mode"]) == (task, "pretrained")


@pytest.mark.slow
def test_without_a_task_both_modes_are_the_plain_network(trained_two_stage: Any) -> None:
    joint, pretrained = (trained_two_stage("none", mode) for mode in ("joint", "pretrained"))
    assert losses_of(joint) == losses_of(pretrained)
    assert not (pretrained / "pretraining").exists()
    assert load_weights(pretrained / "model.pt")["settings"]["mode"] == "none"


# --- what a pre-training hands on ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained(two_stage_options: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Parameters of the network as it is drawn."""
    folder = tmp_path_factory.mktemp("untrained")
    given = two_stage_options("stage1", output_dir=str(folder / "run"), task="none", learning_rate=1e-12, epochs=1)
    return parameters_of(run_two_stage("stage1", given) / "last.pt")


@pytest.mark.parametrize("task", ["in_painting", "jigsaw", pytest.param("all", marks=pytest.mark.slow)])
def test_fine_tuning_starts_from_what_the_task_trained(task: str, train_two_stage: Any, untrained: Any) -> None:
    folder = train_two_stage("stage1", task=task, mode="pretrained", **STILL)
    assert len(losses_of(folder / "pretraining")) == 6
    handed_on = load_weights(folder / "pretraining" / "shared.pt")["model"]
    network, _ = load_network(folder / "last.pt")
    found = parameters_of(folder / "last.pt")
    decodes = task != "jigsaw"
    for name, value in found.items():
        is_encoder = name.startswith(network.encoder_prefixes)
        assert (name in handed_on) == (is_encoder or (decodes and not name.startswith("final_conv")))
        expected = handed_on.get(name, untrained[name])
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-9, msg=name)
    learnt = [name for name in handed_on if name in found and not torch.equal(handed_on[name], untrained[name])]
    assert len(learnt) > len([name for name in handed_on if name in found]) / 2


def test_all_layers_are_fine_tuned(trained_two_stage: Any) -> None:
    folder = trained_two_stage("in_painting", "pretrained")
    handed_on = load_weights(folder / "pretraining" / "shared.pt")["model"]
    changed = {name for name, value in parameters_of(folder / "last.pt").items() if name in handed_on}
    assert changed
    for name in changed:
        assert not torch.equal(handed_on[name], parameters_of(folder / "last.pt")[name]), name


def test_weights_file_has_the_settings_and_knows_its_patients(trained_two_stage: Any, x_rays: Any) -> None:
    settings = load_weights(trained_two_stage("inner_distance") / "model.pt")["settings"]
    cases = load_cohort(x_rays["data"]).cases
    parts = split_parts(cases, shares=[50, 25, 25], seed=TINY_TWO_STAGE["split_seed"])
    assert settings == {
        "organs": ["pneumothorax"],
        "label_names": {"0": "background", "1": "pneumothorax"},
        "modalities": ["CR"],
        "slice_offsets": [0],
        "image_size": [16, 16],
        "patch_size": None,
        "spacing": None,
        "normalise_per": "slice",
        "features": [],
        "task": "inner_distance",
        "mode": "joint",
        "split_key": "patient",
        "trained_on": patient_digests(parts.training),
    }
    assert len(settings["trained_on"]) == 8


# --- weights of losses --------------------------------------------------------------------------------------------


def test_lambda_weighs_the_task(train_two_stage: Any) -> None:
    folder = train_two_stage("stage1", task="rotation", auxiliary_weight=2.5)
    assert_total(folder, {**MAIN, "rotation": 2.5})


def test_a_task_of_no_weight_leaves_the_segmentation_as_it_is(trained_two_stage: Any, train_two_stage: Any) -> None:
    """The task has a batch of its own, drawn beside the one of the segmentation, which stays what it was."""
    plain = losses_of(trained_two_stage("none"))
    found = losses_of(train_two_stage("stage1", task="jigsaw", auxiliary_weight=0))
    for ours, theirs in zip(found, plain, strict=True):
        assert {name: ours[name] for name in MAIN} == {name: theirs[name] for name in MAIN}
    # what is weighed in does change it
    other = losses_of(trained_two_stage("jigsaw"))
    assert other[0]["cross_entropy"] == plain[0]["cross_entropy"]
    assert other[-1]["cross_entropy"] != plain[-1]["cross_entropy"]


@pytest.mark.slow
def test_a_random_weighting_is_shared_between_segmentation_and_task(train_two_stage: Any) -> None:
    folder = train_two_stage("stage1", task="rotation", weighting="random", auxiliary_weight=0.5)
    share = np.array(curve(folder, "weight/rotation")) / 0.5
    assert len(set(share.round(6))) == 4
    for name, weight in MAIN.items():
        np.testing.assert_allclose(curve(folder, f"weight/{name}"), weight * (1 - share), rtol=1e-5)


def test_similarity_of_gradients_never_raises_the_weight(train_two_stage: Any) -> None:
    folder = train_two_stage("stage1", task="inner_distance", weighting="gradient_similarity")
    weight = np.array(curve(folder, "weight/inner_distance"))
    assert len(weight) == 4
    assert (weight >= 0).all()
    assert (weight <= 0.3 + 1e-6).all()


@NEEDS_TORCHJD
@pytest.mark.parametrize("task", ["rotation", pytest.param("all", marks=pytest.mark.slow)])
def test_gradients_are_joined_by_an_aggregator(task: str, train_two_stage: Any, trained_two_stage: Any) -> None:
    folder = train_two_stage("stage1", task=task, weighting="aggregation", aggregator="mgda")
    rows, constant = losses_of(folder), losses_of(trained_two_stage(task))
    assert list(rows[0]) == columns(names_of(task))
    assert rows[0]["cross_entropy"] == constant[0]["cross_entropy"]
    assert rows[-1]["cross_entropy"] != constant[-1]["cross_entropy"]


# --- other networks and data --------------------------------------------------------------------------------------

IN_3D = [
    ("unet3d", "all", "joint"),
    pytest.param("unet3d", "in_painting", "pretrained", marks=pytest.mark.slow),
    pytest.param("unetr", "all", "joint", marks=pytest.mark.slow),
    pytest.param("unetr", "jigsaw", "pretrained", marks=pytest.mark.slow),
    pytest.param("dense_unet", "all", "joint", marks=pytest.mark.slow),
    pytest.param("dense_unet", "inner_distance", "pretrained", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("network", "task", "mode"), IN_3D)
def test_networks_of_volumes_train_with_tasks(
    network: str, task: str, mode: str, hearts: Any, train_two_stage: Any
) -> None:
    data = {"dataset_dir": hearts["data"], "store_dir": hearts["store"]}
    given = {**TINY_3D[network], **data, "epochs": 1, "iterations_per_epoch": 1, "batch_size": 2}
    folder = train_two_stage("stage1", task=task, mode=mode, **given)
    assert list(losses_of(folder)[0]) == columns(names_of(task) if mode == "joint" else [])
    if mode == "pretrained":
        assert list(losses_of(folder / "pretraining")[0]) == columns(names_of(task), main=False)
    size = TINY_3D[network]["patch_size"]
    assert_is_a_network(folder / "model.pt", tuple(size), len(HEART_ORGANS))
    settings = load_weights(folder / "model.pt")["settings"]
    assert (settings["slice_offsets"], settings["image_size"], settings["patch_size"]) == (None, None, size)
    assert np.isfinite(json.loads((folder / "best.json").read_text())["value"])


def test_voxels_are_resampled_to_a_spacing_in_3d(hearts: Any, two_stage_config: Any, tmp_path: Path) -> None:
    spacing = [4.0, 3.0, 4.0]
    parser = ConfigParser()
    parser.read_config(two_stage_config("stage1"))
    parser.update(tiny_two_stage("stage1", hearts, network="unet3d", spacing=spacing, output_dir=str(tmp_path)))
    for volume in parser.get_parsed_content("train#dataset").volumes:
        # 16 slices, 24 rows of 1.5 mm, 20 columns of 2 mm
        assert volume.shape == (16, 12, 10)
        np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), spacing)


@pytest.mark.parametrize("task", ["inner_distance", pytest.param("all", marks=pytest.mark.slow)])
def test_slices_of_volumes_with_organs_that_overlap_are_trained_on(
    task: str, hearts: Any, train_two_stage: Any
) -> None:
    data = {"dataset_dir": hearts["data"], "store_dir": hearts["store"]}
    folder = train_two_stage("stage1", task=task, **data, iterations_per_epoch=10, learning_rate=0.03)
    assert_is_a_network(folder / "model.pt", (16, 16), len(HEART_ORGANS))
    settings = load_weights(folder / "model.pt")["settings"]
    assert settings["label_names"]["3"] == "heart + left_ventricle"
    rows = losses_of(folder)
    assert rows[-1]["cross_entropy"] < 0.8 * rows[0]["cross_entropy"]
    best = json.loads((folder / "best.json").read_text())
    dice = curve(folder, "validation/slice_dice")
    assert best["value"] == pytest.approx(max(dice))
    assert best["epoch"] == int(np.argmax(dice)) + 1
    assert load_checkpoint(folder / "checkpoint.pt")["best_metric"] == pytest.approx(max(dice))
