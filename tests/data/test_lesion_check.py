"""The data check of cases with several modalities, raters and maps."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checked_cohort import AFFINE, SHAPE, check, image, label, save, shifted

from mtmed.data.check import check_cases
from mtmed.data.layout import apply_layout, read_layout
from mtmed.data.manifest import Cohort
from mtmed.errors import InputError


def lesion_cohort(folder: Path, **row: Any) -> Path:
    """One case with FLAIR, T1 and T2, two raters and a tissue map; the row's keys can be changed."""
    for index, name in enumerate(("flair", "t1", "t2")):
        save(folder / f"{name}.nii.gz", image(index))
    for name in ("rater1", "rater2", "tissue"):
        save(folder / f"{name}.nii.gz", label(1))
    first = {
        "image": ["flair.nii.gz", "t1.nii.gz", "t2.nii.gz"],
        "label": ["rater1.nii.gz", "rater2.nii.gz"],
        "maps": {"tissue": "tissue.nii.gz"},
        "id": "a",
        "patient": "p",
    }
    content = {
        "name": "ms",
        "modality": {"0": "FLAIR", "1": "T1", "2": "T2"},
        "labels": {"0": "background", "1": "lesion"},
        "training": [first | row],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_several_modalities_raters_and_maps_pass(tmp_path: Path) -> None:
    report = check(lesion_cohort(tmp_path))
    assert (report.errors, report.notices) == ([], [])


@pytest.mark.parametrize("name", ["rater1", "rater2", "tissue"])
def test_the_map_of_every_rater_and_every_other_map_is_checked(tmp_path: Path, name: str) -> None:
    lesion_cohort(tmp_path)
    path = tmp_path / f"{name}.nii.gz"
    kind = "tissue" if name == "tissue" else "label"
    save(path, label(1), shifted(15))
    assert f"{name}.nii.gz: lies up to 15 mm away" in check(tmp_path).errors[0]
    save(path, label(1).astype(np.float32) * 0.5)
    assert f"{name}.nii.gz: {kind} values are not whole numbers (0.5)" in check(tmp_path).errors[0]
    save(path, label(1).astype(np.float32) * np.float32("nan"))
    assert f"{name}.nii.gz: {kind} has NaN" in check(tmp_path).errors[0]
    save(path, label(1).astype(np.float32) * np.float32(0.9999))
    assert check(tmp_path).errors == []
    assert check(tmp_path).notices == [f"ms/a: has {kind} values within 0.001 of whole numbers; they are rounded"]
    path.unlink()
    assert f"{name}.nii.gz: no such file" in check(tmp_path).errors[0]


def test_a_rater_who_marked_nothing_is_named(tmp_path: Path) -> None:
    save(lesion_cohort(tmp_path) / "rater2.nii.gz", label())
    assert check(tmp_path).notices == ["ms/a: has no foreground in the label map of rater 2"]
    save(tmp_path / "rater2.nii.gz", label(7))
    assert "rater2.nii.gz: label values 7 are not in the manifest" in check(tmp_path).errors[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_lesion_mask_of_0_and_255_is_told_how_to_mend(tmp_path: Path, dtype: type) -> None:
    save(lesion_cohort(tmp_path) / "rater2.nii.gz", (label(1) * 255).astype(dtype))
    errors = check(tmp_path).errors
    assert len(errors) == 1
    expected = r"rater2.nii.gz: label values are 0 and 255 where 0 and 1 are expected \(.*\); divide the map by 255, or"
    assert re.search(expected, errors[0])
    save(tmp_path / "rater2.nii.gz", label(1, 255))
    assert "label values 255 are not in the manifest" in check(tmp_path).errors[0]


def test_modalities_that_a_case_lacks_are_noticed(tmp_path: Path) -> None:
    lesion_cohort(tmp_path, image=[None, "t1.nii.gz", None])
    report = check(tmp_path)
    assert report.errors == []
    assert report.notices == ["ms/a: has no FLAIR", "ms/a: has no T2"]
    assert report.cases[0].shape == SHAPE


def test_negative_ringing_around_the_brain_is_not_an_oddity(tmp_path: Path) -> None:
    ringing = np.abs(image(5)).astype(np.float32)
    ringing[:3] = 0
    ringing[3] *= -0.05
    save(lesion_cohort(tmp_path) / "flair.nii.gz", ringing)
    report = check(tmp_path)
    assert (report.errors, report.notices) == ([], [])


def test_other_grids_are_a_notice_where_files_are_resampled(tmp_path: Path) -> None:
    lesion_cohort(tmp_path)
    finer = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    save(tmp_path / "t1.nii.gz", image(1, (24, 20, 8)), finer)
    save(tmp_path / "tissue.nii.gz", np.ones((24, 20, 8), np.uint8), finer)
    assert len(check(tmp_path).errors) == 2
    report = check(tmp_path, other_grids="resample")
    assert report.errors == []
    assert report.notices == ["ms/a: has files on other grids than its first image; they are resampled onto it"]
    save(tmp_path / "t1.nii.gz", image(1), shifted(8))
    notices = check(tmp_path, other_grids="resample").notices
    assert "ms/a: has files that share less than half of their field of view with its first image" in notices


def test_fields_of_view_that_share_nothing_are_an_error_with_both_affines(tmp_path: Path) -> None:
    save(lesion_cohort(tmp_path) / "t2.nii.gz", image(2), shifted(300))
    errors = check(tmp_path, other_grids="resample").errors
    assert len(errors) == 1
    assert "t2.nii.gz: shares no part of its field of view with" in errors[0]
    assert "[1 0 0 300; 0 1.5 0 0; 0 0 2 0] and [1 0 0 0; 0 1.5 0 0; 0 0 2 0]" in errors[0]
    with pytest.raises(InputError, match="other_grids"):
        check(tmp_path, other_grids="resample", same_affine=False)


@pytest.mark.real
def test_flair_given_as_t1_is_a_notice(real_data: Path) -> None:
    folder = real_data / "ms_open_mni"
    cohort = Cohort((apply_layout(read_layout("mslub_mni"), folder),))
    report = check_cases(cohort)
    assert report.errors == []
    assert report.notices == []
    assert [facts.voxels[1] for facts in report.cases] == [1300, 8227]
    manifest = cohort.manifests[0]
    swapped = replace(manifest, modalities=("T1", "FLAIR", "T2"), cases=manifest.cases[:1])
    report = check_cases(Cohort((swapped,)))
    assert report.errors == []
    assert re.search("T1 looks like FLAIR or T2", report.notices[0])
    assert re.search("FLAIR looks like T1", report.notices[1])
