"""Which images the two-stage bundle shows to the segmentation, and which to the auxiliary task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from two_stage_runs import TINY_3D, tiny_two_stage

from mtmed.data import split_parts, unlabelled_pool


@pytest.fixture
def resolved(two_stage_config: Any, x_rays: Any, tmp_path: Path) -> Callable[..., Any]:
    """Objects of the config of stage 1 with overrides; nothing runs."""

    def parse(data: dict[str, str] = x_rays, **more: Any) -> Any:
        parser = ConfigParser()
        parser.read_config(two_stage_config("stage1"))
        parser.update(tiny_two_stage("stage1", data, **{"output_dir": str(tmp_path / "parsed"), **more}))
        return parser.get_parsed_content

    return parse


def samples(dataset: Any, count: int = 96) -> list[dict[str, Any]]:
    return [dataset[divmod(number, dataset.global_batch_size)] for number in range(count)]


def volumes(found: list[dict[str, Any]], role: str | None = None) -> list[int]:
    return [int((sample[role] if role else sample)["volume"]) for sample in found]


def test_the_task_has_a_batch_of_its_own(resolved: Any) -> None:
    plain = samples(resolved(task="none")("train#dataset"))
    found = samples(resolved(task="rotation")("train#dataset"))
    assert "auxiliary" not in plain[0]
    # what segmentation sees does not depend on the task
    for one, other in zip(plain, found, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
    assert set(volumes(found, "auxiliary")) == set(volumes(found)) == set(range(8))
    same = sum(a == b for a, b in zip(volumes(found), volumes(found, "auxiliary"), strict=True))
    assert same < 30


@pytest.mark.parametrize("task", ["rotation", "inner_distance", "contour", "all"])
def test_labels_are_read_only_for_tasks_made_of_them(task: str, resolved: Any) -> None:
    dataset = resolved(task=task)("train#dataset")
    assert ("label" in samples(dataset, 1)[0]["auxiliary"]) == (task != "rotation")


@pytest.mark.parametrize("fraction", [100, 50])
@pytest.mark.parametrize("phase", ["segmentation", "pretraining"])
def test_unlabelled_images_are_seen_only_when_asked_for(phase: str, fraction: int, resolved: Any) -> None:
    given = {"task": "jigsaw", "phase": phase, "fraction": fraction}
    labelled = 8 * fraction // 100
    for unlabelled, reach in ((False, labelled), (True, 16)):
        get = resolved(**given, unlabelled=unlabelled)
        dataset, parts = get("train#dataset"), get("parts")
        found = samples(dataset)
        assert set(volumes(found, "auxiliary")) == set(range(reach))
        if phase == "segmentation":
            assert set(volumes(found)) == set(range(labelled))
        else:
            # each image of the pool once in a pass
            assert "image" not in found[0]
            assert sorted(volumes(found[:reach], "auxiliary")) == list(range(reach))
        held_out = {case.key for case in (*parts.validation, *parts.test)}
        assert not held_out & {volume.case.key for volume in dataset.volumes}
        assert sum(volume.case.label is not None for volume in dataset.volumes) == labelled
        # a patient that was seen without a label was seen
        assert len(get("settings")["trained_on"]) == reach


def test_the_pool_is_what_the_fraction_left_out_and_what_has_no_label(resolved: Any) -> None:
    get = resolved(task="jigsaw", unlabelled=True, fraction=50)
    parts, cohort = get("parts"), get("cohort")
    all_of_it = split_parts(cohort.cases, shares=[50, 25, 25], seed=get("split_seed"))
    left_out = {case.key for case in all_of_it.training} - {case.key for case in parts.training}
    without = {case.key for one in cohort.manifests for case in one.test_cases}
    assert (len(left_out), len(without)) == (4, 8)
    assert {case.key for case in unlabelled_pool(cohort, parts)} == left_out | without


@pytest.mark.parametrize("network", ["small_unet", "unet3d"])
def test_contrast_compares_two_views_of_one_place(network: str, hearts: Any, resolved: Any) -> None:
    get = resolved(hearts, task="momentum_contrast", **TINY_3D.get(network, {}))
    found = samples(get("train#dataset"), 8)
    assert volumes(found, "auxiliary") == volumes(found, "partner")
    roles = {
        role: {key: torch.stack([torch.as_tensor(one[role][key]) for one in found]) for key in ("image", "volume")}
        for role in ("auxiliary", "partner")
    }
    if network == "small_unet":
        assert torch.equal(roles["auxiliary"]["image"], roles["partner"]["image"])
        assert [one["auxiliary"]["slice"] for one in found] == [one["partner"]["slice"] for one in found]
    patch = {key: torch.stack([torch.as_tensor(one[key]) for one in found]) for key in ("image", "label", "volume")}
    views = get("train#views")({**roles, "patch": patch}, seed=0, step=0, positions=tuple(range(8)))
    one, other = (views[role]["image"] for role in ("auxiliary", "partner"))
    assert all(not torch.allclose(a, b, atol=0.01) for a, b in zip(one, other, strict=True))
