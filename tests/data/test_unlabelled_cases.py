"""Test cases whose images a label-free pre-training may use."""

import json
from pathlib import Path

import pytest

from mtmed.data import Cohort, load_cohort, make_split, unlabelled_cases
from mtmed.errors import InputError


def row(folder: Path, case: str, patient: str | None, *, label: bool) -> dict[str, str]:
    (folder / f"{case}.nii.gz").touch()
    keys = {"image": f"{case}.nii.gz", "label": f"{case}_label.nii.gz", "patient": patient}
    return {key: value for key, value in keys.items() if value is not None and (label or key != "label")}


def write(folder: Path, name: str = "Kidney", **changes: list[dict[str, str]]) -> Path:
    """Labelled scans of p0 to p5; under ``test`` another one of each, two of q and one of r."""
    folder.mkdir(parents=True)
    content = {
        "name": name,
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "kidney"},
        "training": [row(folder, f"p{number}_a", f"p{number}", label=True) for number in range(6)],
        "test": [
            *(row(folder, f"p{number}_b", f"p{number}", label=False) for number in range(6)),
            row(folder, "q_a", "q", label=False),
            row(folder, "q_b", "q", label=False),
            row(folder, "r", "r", label=True),
        ],
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return load_cohort(write(tmp_path / "kidney"))


@pytest.mark.parametrize("fold", range(3))
def test_another_scan_of_a_validation_patient_is_never_used(cohort: Cohort, fold: int) -> None:
    held_out = make_split(cohort.cases, folds=3, fold=fold).validation
    cases = unlabelled_cases(cohort, without=held_out)
    assert not {case.group for case in cases} & {case.group for case in held_out}
    others = {f"p{number}" for number in range(6)} - {case.group for case in held_out}
    assert [case.id for case in cases] == [*(f"{name}_b" for name in sorted(others)), "q_a", "q_b", "r"]


def test_all_are_used_if_nobody_is_held_out_and_none_has_a_label(cohort: Cohort) -> None:
    cases = unlabelled_cases(cohort, without=make_split(cohort.cases, fold=None).validation)
    assert len(cases) == 9
    assert not any(case.labels for case in cases)


def test_a_namesake_in_another_data_set_is_somebody_else(tmp_path: Path) -> None:
    cohort = load_cohort([write(tmp_path / "kidney"), write(tmp_path / "other", "Other")])
    cases = unlabelled_cases(cohort, without=[case for case in cohort.cases if case.dataset == "Kidney"])
    assert [case.id for case in cases if case.dataset == "Kidney"] == ["q_a", "q_b", "r"]
    assert len([case for case in cases if case.dataset == "Other"]) == 9


def test_a_cohort_without_test_cases_has_none(tmp_path: Path) -> None:
    assert unlabelled_cases(load_cohort(write(tmp_path / "kidney", test=[])), without=()) == ()


def test_images_that_are_not_there_are_one_line(cohort: Cohort) -> None:
    folder = cohort.manifests[0].folder
    held_out = [case for case in cohort.cases if case.group == "p0"]
    (folder / "p0_b.nii.gz").unlink()
    assert len(unlabelled_cases(cohort, without=held_out)) == 8
    (folder / "r.nii.gz").unlink()
    with pytest.raises(InputError, match=r"^.*/r\.nii\.gz: listed under 'test', no such file; fetch it, take the row"):
        unlabelled_cases(cohort, without=held_out)
    (folder / "q_a.nii.gz").unlink()
    (folder / "q_b.nii.gz").unlink()
    with pytest.raises(InputError, match=r"^.*/q_a\.nii\.gz and 2 more images: listed under 'test'") as caught:
        unlabelled_cases(cohort, without=held_out)
    assert "\n" not in str(caught.value)


def test_the_same_file_under_another_name_is_refused(tmp_path: Path) -> None:
    cohort = load_cohort([write(tmp_path / "kidney"), write(tmp_path / "other", "Other")])
    shared = tmp_path / "other" / "r.nii.gz"
    shared.unlink()
    shared.symlink_to(tmp_path / "kidney" / "p2_a.nii.gz")
    with pytest.raises(InputError, match=r"Kidney/p2_a: is in validation with an image that Other/r has in training"):
        unlabelled_cases(cohort, without=[case for case in cohort.cases if case.key == "Kidney/p2_a"])
