"""Everything that is wrong with a data set is one line each, listed at once."""

import gzip
import json
import pickle
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from checked_cohort import AFFINE, SHAPE, check, image, label, save, shifted

from mtmed.data.case import Case
from mtmed.data.check import CheckError, check_cases
from mtmed.data.manifest import Cohort, load_cohort, write_manifest
from mtmed.errors import InputError


def make_cohort(folder: Path, cases: int = 3, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(cases):
        save(folder / f"image{index}.nii.gz", image(index))
        save(folder / f"label{index}.nii.gz", label(1, 2))
    content = {
        "name": "set",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "spleen"},
        "training": [
            {"image": f"image{i}.nii.gz", "label": f"label{i}.nii.gz", "patient": f"p{i}"} for i in range(cases)
        ],
    }
    (folder / "dataset.json").write_text(json.dumps(content | changes))
    return folder


def test_a_sound_cohort_passes_and_is_described(tmp_path: Path) -> None:
    report = check(make_cohort(tmp_path))
    assert (report.errors, report.notices) == ([], [])
    report.raise_if_errors()
    facts = report.cases[1]
    assert (facts.key, facts.group, facts.shape) == ("set/image1", "p1", SHAPE)
    assert facts.spacing == pytest.approx((1.0, 1.5, 2.0))
    assert facts.voxels == {0: 12 * 80 - 160, 1: 80, 2: 80}


def damage(path: Path) -> None:
    """Flip one bit of the checksum at the end of the file."""
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)


def with_voxel(value: float) -> Any:
    data = image().astype(np.float32)
    data[3, 4, 5] = value
    return data


FAULTS = {
    "missing": (lambda f: (f / "image1.nii.gz").unlink(), "image1.nii.gz: no such file"),
    "folder": (lambda f: ((f / "image1.nii.gz").unlink(), (f / "image1.nii.gz").mkdir()), "image1.nii.gz: is a folder"),
    "empty": (lambda f: (f / "label1.nii.gz").write_bytes(b""), "label1.nii.gz: is empty"),
    "truncated": (
        lambda f: (f / "image1.nii.gz").write_bytes((f / "image1.nii.gz").read_bytes()[:-300]),
        "image1.nii.gz: gzip data end early",
    ),
    "checksum": (lambda f: damage(f / "image1.nii.gz"), "image1.nii.gz: gzip checksum mismatch"),
    "NaN": (lambda f: save(f / "image1.nii.gz", with_voxel(np.nan)), "1 voxels are NaN or infinite.*(3, 4, 5)"),
    "infinite": (lambda f: save(f / "image1.nii.gz", with_voxel(np.inf)), "1 voxels are NaN or infinite"),
    "constant": (lambda f: save(f / "image1.nii.gz", np.full(SHAPE, 7, np.int16)), "image1.nii.gz: all voxels are 7"),
    "4D": (lambda f: save(f / "image1.nii.gz", image(1, (*SHAPE, 3))), "image1.nii.gz: is 4D .*expected 3D"),
    "2D": (lambda f: save(f / "image1.nii.gz", image(1, (12, 10))), "image1.nii.gz: is 2D .*expected 3D"),
    "label of another shape": (
        lambda f: save(f / "label1.nii.gz", label(1)[:, :, :5]),
        "label1.nii.gz: has 12x10x5 voxels, .*image1.nii.gz has 12x10x8",
    ),
    "label elsewhere": (lambda f: save(f / "label1.nii.gz", label(1), shifted(15)), "label1.nii.gz: lies up to 15 mm"),
    "label mirrored": (
        lambda f: save(f / "label1.nii.gz", label(1), np.diag([-1, 1.5, 2, 1])),
        "label1.nii.gz: lies up to 22 mm",
    ),
    "label value": (
        lambda f: save(f / "label1.nii.gz", label(1, 7, 255)),
        r"label1.nii.gz: label values 7, 255 are not in the manifest \(0 background, 1 liver, 2 spleen\)",
    ),
    "label below 0": (
        lambda f: save(f / "label1.nii.gz", label(1).astype(np.int16) * -1),
        "label values -1 are not in the manifest",
    ),
    "label is an image": (
        lambda f: save(f / "label1.nii.gz", image().astype(np.int32) * 1000),
        r"label values -.* \.\.\. are not in the manifest",
    ),
    "label not whole": (
        lambda f: save(f / "label1.nii.gz", label(1).astype(np.float32) * 0.5),
        r"label values are not whole numbers \(0.5\)",
    ),
    "label NaN": (
        lambda f: save(f / "label1.nii.gz", label(1).astype(np.float32) * np.float32("nan")),
        "label has NaN",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    break_it, message = FAULTS[name]
    break_it(make_cohort(tmp_path))
    report = check(tmp_path)
    assert len(report.errors) == 1
    assert re.search(message, report.errors[0])
    assert "\n" not in report.errors[0]
    with pytest.raises(InputError):
        report.raise_if_errors()


def test_all_faults_are_listed_at_once_in_the_order_of_the_cases(tmp_path: Path) -> None:
    make_cohort(tmp_path, cases=6)
    (tmp_path / "image4.nii.gz").unlink()
    save(tmp_path / "label0.nii.gz", label(9))
    damage(tmp_path / "image2.nii.gz")
    save(tmp_path / "label2.nii.gz", label(8))
    for workers in (1, 4):
        errors = check(tmp_path, workers=workers).errors
        assert [Path(error.split(":")[0]).name for error in errors] == [
            "label0.nii.gz",
            "image2.nii.gz",
            "label2.nii.gz",
            "image4.nii.gz",
        ]


def test_the_message_shows_twenty_lines_and_counts_the_rest() -> None:
    error = CheckError([f"file{index}: bad; mend it" for index in range(33)])
    lines = str(error).splitlines()
    assert len(lines) == 21
    assert lines[-1].startswith("and 13 more")
    assert str(CheckError(["file0: bad; mend it"])) == "file0: bad; mend it"
    assert pickle.loads(pickle.dumps(error)).errors == error.errors


def test_the_same_voxels_in_two_cases_are_found_even_when_packed_anew(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    packed = gzip.decompress((tmp_path / "image0.nii.gz").read_bytes())
    (tmp_path / "image2.nii.gz").write_bytes(gzip.compress(packed, 1))
    errors = check(tmp_path).errors
    assert len(errors) == 1
    assert "image2.nii.gz: has the same voxels as" in errors[0]
    assert "image0.nii.gz" in errors[0]


def test_a_case_listed_twice_is_found(tmp_path: Path) -> None:
    cases = load_cohort(make_cohort(tmp_path)).cases
    errors = check_cases([*cases, cases[0]]).errors
    assert errors == ["set/image0: is listed twice; remove one of the two"]


def test_channels_must_lie_on_one_grid(tmp_path: Path) -> None:
    first = save(tmp_path / "flair.nii.gz", image(0))
    second = save(tmp_path / "t1.nii.gz", image(1), shifted(4))
    case = Case("a", (str(first), str(second)), None, "p", "set")
    errors = check_cases([case]).errors
    assert len(errors) == 1
    assert "t1.nii.gz: lies up to 4 mm away" in errors[0]


def test_one_file_with_all_modalities_is_accepted_and_one_with_other_counts_is_not(tmp_path: Path) -> None:
    make_cohort(tmp_path, modality={"0": "FLAIR", "1": "T1"})
    for index, axes in enumerate(((2,), (), (3,))):
        save(tmp_path / f"image{index}.nii.gz", image(index, (*SHAPE, *axes)))
    errors = check(tmp_path).errors
    assert len(errors) == 2
    assert "image1.nii.gz: is 3D (12x10x8), expected 4D with 2 channels" in errors[0]
    assert "image2.nii.gz: is 4D (12x10x8x3), expected 4D with 2 channels" in errors[1]


def test_one_frame_on_a_fourth_axis_is_accepted(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    save(tmp_path / "image0.nii.gz", image(0, (*SHAPE, 1)))
    assert check(tmp_path).errors == []


def test_another_affine_can_be_accepted_by_name(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    save(tmp_path / "label0.nii.gz", label(1, 2), shifted(15))
    report = check(tmp_path, same_affine=False)
    assert report.errors == []
    assert report.notices == [
        "set/image0: has affines that differ between its files (accepted; the image's affine is taken)"
    ]


def test_a_slight_difference_of_affines_is_a_notice_and_rounding_is_none(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    save(tmp_path / "label0.nii.gz", label(1, 2), shifted(0.05))
    save(tmp_path / "label1.nii.gz", label(1, 2), shifted(0.0001))
    report = check(tmp_path)
    assert report.errors == []
    assert len(report.notices) == 1
    assert report.notices[0].startswith("set/image0: has affines that differ")


def test_labels_almost_whole_pass_with_a_notice(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    save(tmp_path / "label0.nii.gz", label(1, 2).astype(np.float32) * np.float32(0.9999))
    report = check(tmp_path)
    assert report.errors == []
    assert report.notices == ["set/image0: has label values within 0.001 of whole numbers; they are rounded"]
    assert report.cases[0].voxels == report.cases[1].voxels


def test_labels_without_foreground_are_counted_and_named(tmp_path: Path) -> None:
    make_cohort(tmp_path, cases=5)
    for index in range(4):
        save(tmp_path / f"label{index}.nii.gz", label())
    report = check(tmp_path)
    assert report.errors == []
    assert report.notices == ["4 cases (set/image0, set/image1, set/image2 and 1 more): has no foreground"]


def test_a_label_that_no_case_has_is_noticed(tmp_path: Path) -> None:
    make_cohort(tmp_path, labels={"0": "background", "1": "liver", "2": "spleen", "3": "pancreas"})
    assert check(tmp_path).notices == ["set: label 3 (pancreas) is in no case"]


def test_a_volume_smaller_than_the_patch_is_noticed_after_resampling(tmp_path: Path) -> None:
    make_cohort(tmp_path, cases=1)
    assert check(tmp_path, patch_size=(12, 10, 8)).notices == []
    assert check(tmp_path, patch_size=(12, 10, 9)).notices == [
        "set/image0: is smaller than the patch of 12x10x9 voxels; it is padded with zeros"
    ]
    # 12 x 15 x 16 mm
    assert check(tmp_path, patch_size=(12, 15, 16), spacing=(1, 1, 1)).notices == []
    assert len(check(tmp_path, patch_size=(12, 15, 17), spacing=(1, 1, 1)).notices) == 1


def test_the_patch_is_compared_along_anatomical_axes(tmp_path: Path) -> None:
    # slices first, as in KiTS: axis 0 is inferior, 1 posterior, 2 left
    affine = np.array([[0, 0, -1.0, 0], [0, -1.5, 0, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
    path = save(tmp_path / "slices_first.nii.gz", image(0, (8, 10, 12)), affine)
    case = Case("a", (str(path),), None, "p", "set")
    assert check_cases([case], patch_size=(12, 10, 8)).notices == []
    assert len(check_cases([case], patch_size=(8, 10, 12)).notices) == 1
    assert check_cases([case], patch_size=(12, 15, 16), spacing=(1, 1, 1)).notices == []


def test_a_sheared_affine_and_a_guessed_one_are_noticed(tmp_path: Path) -> None:
    make_cohort(tmp_path, cases=2)
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.4
    for name, data in (("image0", image(0)), ("label0", label(1, 2))):
        save(tmp_path / f"{name}.nii.gz", data, sheared)
    for name, data in (("image1", image(1)), ("label1", label(1, 2))):
        volume = nib.Nifti1Image(data, None)
        volume.header["pixdim"][1:4] = (1, 1.5, 2)
        nib.save(volume, tmp_path / f"{name}.nii.gz")
    report = check(tmp_path)
    assert report.errors == []
    assert any(notice.startswith("set/image0: has a sheared affine") for notice in report.notices)
    # image and label of one case are one oddity
    guessed = [notice for notice in report.notices if "orientation is a guess" in notice]
    assert len(guessed) == 1
    assert guessed[0].startswith("set/image1: ")


def test_paths_that_leave_the_folder_are_noticed(tmp_path: Path) -> None:
    make_cohort(tmp_path / "data")
    save(tmp_path / "outside.nii.gz", image(9))
    rows = [{"image": "../outside.nii.gz", "label": "label0.nii.gz", "patient": "p"}]
    (tmp_path / "data" / "dataset.json").write_text(
        json.dumps(json.loads((tmp_path / "data" / "dataset.json").read_text()) | {"training": rows})
    )
    report = check(tmp_path / "data")
    assert report.errors == []
    assert report.notices == ["set/outside: lies outside the folder of its manifest"]


def test_test_cases_are_checked_on_request(tmp_path: Path) -> None:
    make_cohort(tmp_path, test=[{"image": "absent.nii.gz", "patient": "q"}])
    assert check(tmp_path).errors == []
    assert len(check(tmp_path, include_test=True).errors) == 1


def test_cases_without_names_pass_with_any_whole_label(tmp_path: Path) -> None:
    cases = load_cohort(make_cohort(tmp_path)).cases
    assert check_cases(cases).errors == []
    assert len(check_cases(cases, label_names={"set": {0: "background", 1: "liver"}}).errors) == 3


@pytest.mark.real
def test_real_scans_pass(real_data: Path, tmp_path: Path) -> None:
    cases = (
        Case(
            "abdomen",
            (str(real_data / "totalseg_ct" / "example_ct.nii.gz"),),
            str(real_data / "totalseg_ct" / "example_seg_fast_force_split.nii.gz"),
            "1",
            "abdomen",
        ),
        Case(
            "chest",
            (str(real_data / "lung_ct_ibsi" / "phantom.nii.gz"),),
            str(real_data / "lung_ct_ibsi" / "mask.nii.gz"),
            "1",
            "chest",
        ),
    )
    report = check_cases(cases, label_names={"chest": {0: "background", 1: "tumour"}})
    assert report.errors == []
    assert report.cases[0].voxels[5] == 41692  # liver
    assert report.cases[1].voxels[1] == 125256


def test_a_written_cohort_checks_like_the_one_read(tmp_path: Path) -> None:
    cohort = load_cohort(make_cohort(tmp_path))
    write_manifest(cohort.manifests[0], tmp_path / "again.json")
    assert isinstance(cohort, Cohort)
    assert check_cases(load_cohort(tmp_path / "again.json")) == check_cases(cohort)
