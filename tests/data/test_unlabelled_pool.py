"""Which images an auxiliary task may use besides the labelled training cases."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Orientationd, Resized

from mtmed.data import (
    Case,
    Cohort,
    CropDataset,
    EverySlice,
    SeparateBatches,
    VolumeStore,
    crop_loader,
    load_cohort,
    organ_bits,
    split_parts,
    unlabelled_pool,
)
from mtmed.errors import InputError
from mtmed.transforms import GroupLabelsd, ImageFactsd, LoadVolumed, ResizeMasksd, ScaleSlicesd

PATIENTS = 12


def save(path: Path, array: Any) -> str:
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 5.0, 1.0])), path)
    return path.name


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Two visits of p0 to p11, the second without label, and three patients without any."""
    folder = tmp_path_factory.mktemp("scans")
    generator = np.random.default_rng(0)
    lists: dict[str, list[dict[str, str]]] = {"training": [], "test": []}
    for number in range(PATIENTS + 3):
        image = generator.random((20, 24, 4), np.float32)
        row = {"image": save(folder / f"p{number}_b.nii.gz", image), "patient": f"p{number}", "visit": "2"}
        lists["test"].append(row)
        if number < PATIENTS:
            label = (image > 0.8).astype(np.uint8)
            row = {"patient": f"p{number}", "visit": "1", "image": save(folder / f"p{number}_a.nii.gz", image)}
            lists["training"].append({**row, "label": save(folder / f"p{number}_label.nii.gz", label)})
    content = {"name": "toy", "modality": {"0": "MR"}, "labels": {"0": "background", "1": "organ"}, **lists}
    (folder / "dataset.json").write_text(json.dumps(content))
    return load_cohort(folder)


def groups(cases: Any) -> set[str]:
    return {case.group for case in cases}


@pytest.mark.parametrize("key", ["patient", "patient_day"])
@pytest.mark.parametrize("fold", range(3))
def test_nobody_who_validates_or_tests_is_in_the_pool(cohort: Cohort, fold: int, key: str) -> None:
    parts = split_parts(cohort.cases, shares=[50, 25, 25], fold=fold, fraction=50, key=key)
    pool = unlabelled_pool(cohort, parts)
    held_out = groups([*parts.validation, *parts.test])
    assert len(held_out) == 6
    assert not groups(pool) & held_out
    assert groups(pool) | held_out == {f"p{number}" for number in range(PATIENTS + 3)}
    assert not {case.key for case in pool} & {case.key for case in parts.training}
    assert not any(case.labels for case in pool)


def test_a_fraction_turns_labelled_cases_into_images(cohort: Cohort) -> None:
    options: dict[str, Any] = {"shares": [50, 25, 25], "fold": 1}
    whole = split_parts(cohort.cases, **options)
    for fraction, kept in ((100, 6), (50, 3), (1, 1)):
        parts = split_parts(cohort.cases, fraction=fraction, **options)
        pool = unlabelled_pool(cohort, parts)
        left_out = [case.key for case in whole.training if case not in parts.training]
        assert len(left_out) == 6 - kept
        # second visits of the six patients who train, and the three without any label
        assert [case.key for case in pool][: 6 - kept] == left_out
        assert len(pool) == 6 - kept + 6 + 3


def test_a_cohort_with_labels_only_leaves_nothing(cohort: Cohort) -> None:
    bare = Cohort(tuple(type(one)(**{**vars(one), "test_cases": ()}) for one in cohort.manifests))
    assert unlabelled_pool(bare, split_parts(bare.cases)) == ()


def test_images_that_are_not_there_are_one_line(cohort: Cohort) -> None:
    parts = split_parts(cohort.cases)
    missing = Case("gone", ("/nowhere/gone.nii.gz",), None, "gone", "toy")
    bare = Cohort(tuple(type(one)(**{**vars(one), "test_cases": (missing,)}) for one in cohort.manifests))
    with pytest.raises(InputError, match=r"gone\.nii\.gz: listed under 'test', no such file"):
        unlabelled_pool(bare, parts)


@pytest.mark.parametrize("resizing", ["nearest", "linear"])
def test_one_store_prepares_labelled_and_unlabelled_cases(cohort: Cohort, tmp_path: Path, resizing: str) -> None:
    both, size = ["image", "label"], [-1, 16, 16]
    resize = {
        "nearest": Resized("label", spatial_size=size, mode="nearest-exact"),
        "linear": ResizeMasksd("label", spatial_size=size, organs=1),
    }
    transforms = [
        LoadVolumed(both, keep_integers=True),
        Orientationd(both, axcodes="SPL", labels=None),
        ImageFactsd("image"),
        GroupLabelsd("label", values=organ_bits(cohort, ["organ"])),
        ScaleSlicesd("image", per="scan"),
        Resized("image", spatial_size=size, mode="trilinear"),
        resize[resizing],
    ]
    parts = split_parts(cohort.cases, shares=[50, 25, 25], fraction=34)
    cases = [*parts.training, *unlabelled_pool(cohort, parts)]
    volumes = VolumeStore(tmp_path, transforms=transforms).build(cases)
    assert [volume.labelled for volume in volumes] == [True] * 2 + [False] * (len(cases) - 2)
    assert [volume.case.label is None for volume in volumes] == [not volume.labelled for volume in volumes]
    assert {volume.shape for volume in volumes} == {(4, 16, 16)}
    draw = SeparateBatches(segmentation=EverySlice(), auxiliary=EverySlice(), labelled_only=False, maps=False)
    batch = next(iter(crop_loader(CropDataset(volumes, draw, seed=0, global_batch_size=16), batch_size=16)))
    assert batch["label"].shape == batch["auxiliary"]["image"].shape == (16, 1, 16, 16)
    assert max(batch["auxiliary"]["volume"]) > 1
