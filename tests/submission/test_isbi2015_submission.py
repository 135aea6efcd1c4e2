"""The zip for the ISBI 2015 challenge."""

import io
import zipfile

import nibabel as nib
import numpy as np
import pytest

from mtmed.cli import main
from mtmed.errors import InputError
from mtmed.submission import isbi2015, write_isbi_submission

AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0]) + np.outer([90.0, -126.0, -72.0, 0.0], [0, 0, 0, 1])
VISITS = {patient: 4 for patient in range(1, 11)} | {11: 5, 12: 5, 13: 5, 14: 6}


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(isbi2015, "_GRID", (9, 11, 9))


def _write(folder, name, shape=(9, 11, 9), *, value=1, dtype=np.uint8):
    folder.mkdir(exist_ok=True)
    label = np.zeros(shape, dtype)
    label[tuple(side // 2 for side in shape)] = value
    nib.Nifti1Image(label, AFFINE).to_filename(folder / name)


def _write_all(folder, leave_out=()):
    for patient, visits in VISITS.items():
        for visit in range(1, visits + 1):
            case = f"test{patient:02}_{visit:02}"
            if case not in leave_out:
                _write(folder, f"isbi2015_{case}_flair_pp_seg.nii.gz")
    return folder


def _names(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_zip_has_a_plain_mask_per_scan_with_the_geometry_of_the_prediction(tmp_path, small_grid):
    folder = _write_all(tmp_path / "predictions")
    (folder / "isbi2015_test01_01_flair_pp_seg.json").write_text("{}")
    cases = write_isbi_submission(folder, output=tmp_path / "new" / "out.zip", method="unet-3d")
    names = _names(tmp_path / "new" / "out.zip")
    assert names == [f"{case}_unet-3d.nii" for case in cases]
    assert (names[0], names[-1], len(names)) == ("test01_01_unet-3d.nii", "test14_06_unet-3d.nii", 61)
    with zipfile.ZipFile(tmp_path / "new" / "out.zip") as archive:
        content = archive.read(names[5])
    mask = nib.Nifti1Image.from_stream(io.BytesIO(content))
    source = nib.load(cases["test02_02"])
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(source.dataobj))
    np.testing.assert_array_equal(mask.affine, source.affine)
    assert mask.header["sform_code"] == source.header["sform_code"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.zip"]


def test_same_predictions_give_the_same_bytes(tmp_path, small_grid):
    folder = _write_all(tmp_path / "predictions")
    for name in ("a.zip", "b.zip"):
        write_isbi_submission(sorted(folder.iterdir()), output=tmp_path / name, method="unet")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_values_stored_as_floats_are_written_as_whole_numbers(tmp_path, small_grid):
    folder = _write_all(tmp_path / "predictions")
    _write(folder, "isbi2015_test03_03_flair_pp_seg.nii.gz", dtype=np.float32)
    write_isbi_submission(folder, output=tmp_path / "out.zip", method="unet")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        mask = nib.Nifti1Image.from_stream(io.BytesIO(archive.read("test03_03_unet.nii")))
    assert np.asarray(mask.dataobj).sum() == 1
    assert mask.get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (("test05_02",), "test05_02: and 0 other scans have no prediction"),
        (("test07_01", "test07_02", "test07_03", "test07_04"), "test07_01: and 0 other"),
        (("test14_06",), r"are 60 scans, the challenge has 61 \(test01 4, .*test14 5\)"),
    ],
)
def test_missing_scans_are_named(tmp_path, small_grid, leave_out, message):
    folder = _write_all(tmp_path / "predictions", leave_out)
    with pytest.raises(InputError, match=message):
        write_isbi_submission(folder, output=tmp_path / "out.zip", method="unet")
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test01_01_tissue.nii.gz", "second file for test01_01"),
        ("test15_01_seg.nii.gz", "patients are test01 to test14"),
        ("test02_00_seg.nii.gz", "visits count from 01"),
        ("training01_01_seg.nii.gz", "no case"),
        ("test01_011.nii.gz", "no case"),
    ],
)
def test_files_that_do_not_belong_are_named(tmp_path, small_grid, name, message):
    folder = _write_all(tmp_path / "predictions")
    _write(folder, name)
    with pytest.raises(InputError, match=message):
        write_isbi_submission(folder, output=tmp_path / "out.zip", method="unet")


def test_masks_of_another_grid_or_with_other_values_are_refused_and_leave_no_zip(tmp_path, small_grid):
    folder = _write_all(tmp_path / "predictions")
    _write(folder, "isbi2015_test09_01_flair_pp_seg.nii.gz", (9, 11, 8))
    with pytest.raises(InputError, match=r"test09_01.*has 9x11x8 voxels, the challenge's grid has 9x11x9"):
        write_isbi_submission(folder, output=tmp_path / "out.zip", method="unet")
    _write(folder, "isbi2015_test09_01_flair_pp_seg.nii.gz", value=3)
    with pytest.raises(InputError, match=r"test09_01.*holds the values 0, 3"):
        write_isbi_submission(folder, output=tmp_path / "out.zip", method="unet")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions"]


def test_grid_is_that_of_the_challenge(tmp_path):
    folder = _write_all(tmp_path / "predictions")
    with pytest.raises(InputError, match="the challenge's grid has 181x217x181"):
        write_isbi_submission(folder, output=tmp_path / "out.zip", method="unet")


def test_wrong_options_are_refused(tmp_path, small_grid):
    folder = _write_all(tmp_path / "predictions")
    with pytest.raises(InputError, match="letters, digits"):
        write_isbi_submission(folder, output=tmp_path / "out.zip", method="my_method")
    with pytest.raises(InputError, match=r"does not end in \.zip"):
        write_isbi_submission(folder, output=tmp_path / "out.tar", method="unet")
    with pytest.raises(InputError, match="no such file"):
        write_isbi_submission(tmp_path / "absent", output=tmp_path / "out.zip", method="unet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has no \.nii"):
        write_isbi_submission(tmp_path / "empty", output=tmp_path / "out.zip", method="unet")
    (tmp_path / "out.zip").write_bytes(b"older")
    with pytest.raises(InputError, match="exists already"):
        write_isbi_submission(folder, output=tmp_path / "out.zip", method="unet")
    assert (tmp_path / "out.zip").read_bytes() == b"older"


def test_command_packs_and_says_what_it_wrote(tmp_path, small_grid, capsys):
    folder = _write_all(tmp_path / "predictions")
    target = tmp_path / "out.zip"
    assert main(["submission", str(folder), "--method", "unet", "--output", str(target)]) == 0
    assert "61 scans, test01_01_unet.nii and so on" in capsys.readouterr().out
    assert len(_names(target)) == 61
