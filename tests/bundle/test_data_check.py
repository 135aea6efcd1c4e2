"""The data are checked once, and again when they change."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mtmed.bundle import check_data
from mtmed.data import Cohort, load_cohort
from mtmed.errors import InputError


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    rows = []
    for number in range(2):
        data = np.random.default_rng(number).integers(-100, 100, (9, 9, 9)).astype(np.int16)
        nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / f"{number}.nii.gz")
        nib.Nifti1Image((data > 0).astype(np.uint8), np.eye(4)).to_filename(tmp_path / f"label{number}.nii.gz")
        rows.append({"image": f"{number}.nii.gz", "label": f"label{number}.nii.gz", "patient": f"p{number}"})
    labels = {"0": "background", "1": "organ"}
    content = {"name": "Toy", "modality": {"0": "CT"}, "labels": labels, "training": rows}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return load_cohort(tmp_path)


def test_unchanged_data_are_not_read_again(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_data(cohort, output_dir=str(tmp_path), patch_size=[16, 16, 16])
    monkeypatch.setattr("mtmed.bundle.data_check.check_cases", None)
    check_data(cohort, output_dir=str(tmp_path), patch_size=[16, 16, 16])
    record = json.loads((tmp_path / "data_check.json").read_text())
    assert record["cases"] == 2
    assert any("smaller than the patch" in notice for notice in record["notices"])


def test_a_file_that_changed_is_read_again(cohort: Cohort, tmp_path: Path) -> None:
    check_data(cohort, output_dir=str(tmp_path))
    (tmp_path / "1.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"1\.nii\.gz: is empty"):
        check_data(cohort, output_dir=str(tmp_path))


def test_the_record_of_a_run_begun_before_is_known_again(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_data(cohort, output_dir=str(tmp_path))
    (record,) = (path for path in tmp_path.glob("*.json") if "fingerprint" in path.read_text())
    digest = hashlib.blake2b(b"refuse", digest_size=16)  # the text that has been hashed since the first release
    digest.update(b"('CT',)")
    for number in range(2):
        image, label = (f"{tmp_path}/{name}{number}.nii.gz" for name in ("", "label"))
        digest.update(f"(('Toy/{number}', 'p{number}', None, None), ([False], 1, []))".encode())
        for path in (image, label):
            digest.update(f"{path} {os.stat(path).st_size} {os.stat(path).st_mtime_ns}\n".encode())
    digest.update(b"[(0, 'background'), (1, 'organ')]")
    assert json.loads(record.read_text())["fingerprint"] == digest.hexdigest()


def test_other_grids_pass_where_the_run_resamples_them(cohort: Cohort, tmp_path: Path) -> None:
    nib.Nifti1Image(np.ones((18, 9, 9), np.uint8), np.diag([0.5, 1, 1, 1])).to_filename(tmp_path / "label1.nii.gz")
    check_data(cohort, output_dir=str(tmp_path), other_grids="resample")
    record = json.loads((tmp_path / "data_check.json").read_text())
    assert any("on other grids than its first image" in notice for notice in record["notices"])
    # a record made for another option does not count
    with pytest.raises(InputError, match=r"label1\.nii\.gz: has 18x9x9 voxels"):
        check_data(cohort, output_dir=str(tmp_path))


def test_an_undeclared_orientation_is_refused_on_request(cohort: Cohort, tmp_path: Path) -> None:
    for name in ("1", "label1"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / f"{name}.nii.gz")
    check_data(cohort, output_dir=str(tmp_path))
    before = json.loads((tmp_path / "data_check.json").read_text())
    assert any("orientation is a guess" in notice for notice in before["notices"])
    # a record made without the requirement does not count
    with pytest.raises(InputError, match=r"1\.nii\.gz: declares no orientation"):
        check_data(cohort, output_dir=str(tmp_path), require_orientation=True)


def test_test_cases_are_checked_on_request(cohort: Cohort, tmp_path: Path) -> None:
    hidden = replace(cohort.cases[0], id="h", image=(str(tmp_path / "h.nii.gz"),), label=None, group="h")
    (tmp_path / "h.nii.gz").write_bytes(b"")
    cohort = Cohort((replace(cohort.manifests[0], test_cases=(hidden,)),))
    check_data(cohort, output_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"h\.nii\.gz: is empty"):
        check_data(cohort, output_dir=str(tmp_path), include_test=True)
    nib.Nifti1Image(np.arange(729, dtype=np.int16).reshape(9, 9, 9), np.eye(4)).to_filename(tmp_path / "h.nii.gz")
    check_data(cohort, output_dir=str(tmp_path), include_test=True)
    assert json.loads((tmp_path / "data_check.json").read_text())["cases"] == 3
    # what was checked with them is checked again when one of them changes
    (tmp_path / "h.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"h\.nii\.gz: is empty"):
        check_data(cohort, output_dir=str(tmp_path), include_test=True)


def test_another_known_orientation_is_checked_anew(cohort: Cohort, tmp_path: Path) -> None:
    check_data(cohort, output_dir=str(tmp_path))
    known = Cohort((replace(cohort.manifests[0], orientation="IPL"),))
    check_data(known, output_dir=str(tmp_path))
    record = json.loads((tmp_path / "data_check.json").read_text())
    assert any("known to be IPL" in notice for notice in record["notices"])


def test_other_modalities_are_checked_anew(cohort: Cohort, tmp_path: Path) -> None:
    check_data(cohort, output_dir=str(tmp_path))
    before = json.loads((tmp_path / "data_check.json").read_text())["fingerprint"]
    manifest = cohort.manifests[0]
    case = manifest.cases[0]
    wider = replace(manifest, modalities=("CT", "PET"), cases=(replace(case, image=(case.image[0], None)),))
    check_data(Cohort((wider,)), output_dir=str(tmp_path))
    record = json.loads((tmp_path / "data_check.json").read_text())
    assert record["fingerprint"] != before
    assert f"{case.key}: has no PET" in record["notices"]


def test_a_damaged_record_counts_as_none(cohort: Cohort, tmp_path: Path) -> None:
    for content in ("", "[]", "{}", '{"fingerprint"'):
        (tmp_path / "data_check.json").write_text(content)
        check_data(cohort, output_dir=str(tmp_path))
        assert json.loads((tmp_path / "data_check.json").read_text())["cases"] == 2


@pytest.mark.parametrize("values", [[1, 1], [1, 1, 0], [1, 1, "x"], 32, "abc"])
def test_a_spacing_that_is_none_is_refused(cohort: Cohort, tmp_path: Path, values: object) -> None:
    with pytest.raises(InputError, match=r"spacing: is .*; give three numbers above 0"):
        check_data(cohort, output_dir=str(tmp_path), spacing=values)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [[5, 5], [5, 4], [5], ["a", "b"]])
def test_a_window_without_width_is_refused(cohort: Cohort, tmp_path: Path, window: list[float]) -> None:
    with pytest.raises(InputError, match=r"window: is .*; give two numbers, the lower one first"):
        check_data(cohort, output_dir=str(tmp_path), window=window)


class TestOneNetworkForAllLabels:
    def test_labels_that_all_data_sets_share_pass(self, cohort: Cohort, tmp_path: Path) -> None:
        check_data(cohort, output_dir=str(tmp_path), label_names={0: "background", 1: "organ"})
        assert (tmp_path / "data_check.json").is_file()

    def test_gaps_between_label_values_are_refused(self, cohort: Cohort, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Toy: has the label values 0, 5, which leave some out; number its labels"):
            check_data(cohort, output_dir=str(tmp_path), label_names={0: "background", 5: "organ"})

    def test_data_sets_whose_labels_mean_different_things_are_refused(self, cohort: Cohort, tmp_path: Path) -> None:
        other = replace(cohort.manifests[0], name="Other", label_names={0: "background", 1: "tumour"})
        both = Cohort((cohort.manifests[0], other))
        with pytest.raises(InputError, match=r"Other: names its labels .*tumour.*, but Toy .*organ"):
            check_data(both, output_dir=str(tmp_path), label_names={0: "background", 1: "organ"})


def test_a_run_is_not_continued_on_other_cases(cohort: Cohort, tmp_path: Path) -> None:
    check_data(cohort, output_dir=str(tmp_path))
    (tmp_path / "checkpoint.pt").touch()
    check_data(cohort, output_dir=str(tmp_path))
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["training"][1]["patient"] = "another"
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"not those that this run began with; .*--new true"):
        check_data(load_cohort(tmp_path), output_dir=str(tmp_path))
