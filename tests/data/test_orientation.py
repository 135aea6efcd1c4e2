"""What a data set is known to be oriented like, against what its files say."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mtmed.data import check_cases, load_cohort, load_manifest, write_manifest
from mtmed.data.orientation import parse_orientation
from mtmed.errors import InputError
from mtmed.transforms.ras import axis_codes

AXES = {"RAS": np.eye(3), "IPL": -np.eye(3)[:, ::-1], "LPS": np.diag([-1, -1, 1])}


def save(path: Path, data: Any, axes: str | None) -> None:
    image = nib.Nifti1Image(data, None)
    affine = np.eye(4)
    affine[:3, :3] = AXES[axes or "RAS"]
    image.set_sform(affine, code=int(axes is not None))
    image.set_qform(affine, code=0)
    nib.save(image, path)


def make(folder: Path, *axes: str | None, **changes: object) -> Path:
    rows = []
    for index, name in enumerate(axes):
        data = np.random.default_rng(index).integers(0, 99, (5, 5, 5)).astype(np.int16)
        save(folder / f"image{index}.nii.gz", data, name)
        save(folder / f"label{index}.nii.gz", (data > 50).astype(np.uint8), name)
        rows.append({"image": f"image{index}.nii.gz", "label": f"label{index}.nii.gz", "patient": f"p{index}"})
    content = {"name": "set", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "kidney"}, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(content | changes))
    return folder


@pytest.mark.parametrize("value", ["RAS", "IPL", "SLP", None])
def test_an_orientation_has_a_letter_for_each_pair(value: str | None) -> None:
    assert parse_orientation(value, "file") == value


@pytest.mark.parametrize("value", ["", "RA", "RAX", "RLS", "ras", "RASS", 3, ["R", "A", "S"]])
def test_what_is_no_orientation_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.json: 'orientation' is .*one letter each of LR, PA, IS"):
        load_manifest(make(tmp_path, "RAS", orientation=value))


def test_codes_are_those_of_nibabel() -> None:
    for name, directions in AXES.items():
        affine = np.eye(4)
        affine[:3, :3] = directions
        assert axis_codes(affine) == "".join(nib.aff2axcodes(affine)) == name


def test_a_manifest_keeps_its_orientation(tmp_path: Path) -> None:
    manifest = load_manifest(make(tmp_path, "IPL", orientation="IPL"))
    assert manifest.orientation == "IPL"
    assert load_manifest(write_manifest(manifest, tmp_path / "again.json")).orientation == "IPL"
    plain = load_manifest(make(tmp_path, "IPL"))
    assert plain.orientation is None
    assert "orientation" not in json.loads(write_manifest(plain, tmp_path / "again.json").read_text())


def test_affines_that_say_otherwise_are_one_notice_with_the_cases(tmp_path: Path) -> None:
    report = check_cases(load_cohort(make(tmp_path, "IPL", "LPS", "RAS", "IPL", orientation="IPL")))
    assert report.errors == []
    assert report.notices == [
        "2 cases (set/image1, set/image2): is oriented LPS, RAS by its affine, but its data set is known to be IPL"
    ]


def test_where_sides_matter_affines_that_say_otherwise_are_an_error(tmp_path: Path) -> None:
    cohort = load_cohort(make(tmp_path, "IPL", "LPS", "IPL", orientation="IPL"))
    report = check_cases(cohort, require_orientation=True)
    (error,) = report.errors
    assert error.startswith("set/image1: is oriented LPS by its affine, but its data set is known to be IPL; ")
    assert "fetch the files again, or correct 'orientation' of set" in error
    assert report.notices == []


def test_matching_affines_and_unknown_orientations_are_no_notice(tmp_path: Path) -> None:
    assert check_cases(load_cohort(make(tmp_path, "IPL", "IPL", orientation="IPL"))).notices == []
    assert check_cases(load_cohort(make(tmp_path, "IPL", "RAS"))).notices == []


def test_an_undeclared_orientation_is_a_notice_or_on_request_an_error(tmp_path: Path) -> None:
    cohort = load_cohort(make(tmp_path, "IPL", None, orientation="IPL"))
    report = check_cases(cohort)
    assert report.errors == []
    assert report.notices == ["set/image1: declares neither sform nor qform, so its orientation is a guess"]
    report = check_cases(cohort, require_orientation=True)
    assert len(report.errors) == 2
    for name, error in zip(("image1", "label1"), report.errors, strict=True):
        assert f"{name}.nii.gz: declares no orientation" in error
        assert "left and right are unknown" in error


def test_an_affine_that_is_not_taken_need_not_be_declared(tmp_path: Path) -> None:
    cohort = load_cohort(make(tmp_path, "IPL"))
    save(tmp_path / "label0.nii.gz", np.ones((5, 5, 5), np.uint8), None)
    assert check_cases(cohort, require_orientation=True, same_affine=False).errors == []
