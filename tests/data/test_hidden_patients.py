"""Visits and slices without a patient are refused, so that no split can divide one patient."""

import json

import pytest

from mtmed.data.manifest import load_manifest
from mtmed.errors import InputError


def write(folder, images, *, patients=None):
    rows = [{"image": image, "label": f"labels/{number}.nii.gz"} for number, image in enumerate(images)]
    for number, row in enumerate(rows):
        row["id"] = f"c{number}"
        if patients:
            row["patient"] = patients[number]
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ"}, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "images",
    [
        ["sub-01/ses-1/t1.nii.gz", "sub-02/ses-1/t1.nii.gz", "sub-01/ses-2/t1.nii.gz"],
        ["case7_day20.nii.gz", "case8_day1.nii.gz", "case7_day22.nii.gz"],
        ["p1/visit1.nii.gz", "p2/visit1.nii.gz", "p1/visit2.nii.gz"],
        ["anna_Session-01.nii.gz", "bert_Session-01.nii.gz", "anna_Session-02.nii.gz"],
        ["a/slice_0001_64_64_1.50_1.50.png", "b/slice_0001_64_64_1.50_1.50.png", "a/slice_0002_64_64_1.50_1.50.png"],
        ["scan1_slice003.png", "scan2_slice003.png", "scan1_slice004.png"],
    ],
)
def test_cases_that_differ_by_a_visit_or_slice_alone_need_a_patient(tmp_path, images):
    with pytest.raises(
        InputError, match="no 'patient', and 'c0' and 'c2' look like visits or slices of one; give"
    ) as refused:
        load_manifest(write(tmp_path, images))
    assert refused.value.culprit == str(tmp_path / "dataset.json")
    assert "\n" not in str(refused.value)
    assert load_manifest(write(tmp_path, images, patients=["x", "y", "x"])).has_groups
    # said explicitly, each case may be a patient of its own
    assert {case.group for case in load_manifest(write(tmp_path, images, patients=["c0", "c1", "c2"])).cases} == {
        "c0",
        "c1",
        "c2",
    }


@pytest.mark.parametrize(
    "images",
    [
        ["spleen_1.nii.gz", "spleen_2.nii.gz", "spleen_10.nii.gz"],
        ["sub-01/ses-1/t1.nii.gz", "sub-02/ses-1/t1.nii.gz", "sub-03/ses-2/t1.nii.gz"],
        ["birthday1.nii.gz", "birthday2.nii.gz", "daybreak3.nii.gz"],
        ["ct/visited_1.nii.gz", "ct/visited_2.nii.gz", "ct/visited_3.nii.gz"],
    ],
)
def test_other_numbers_in_names_are_no_visits(tmp_path, images):
    manifest = load_manifest(write(tmp_path, images))
    assert not manifest.has_groups
    assert len({case.group for case in manifest.cases}) == 3
