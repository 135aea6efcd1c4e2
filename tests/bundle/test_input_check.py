"""What is to be predicted is read as a whole before the first case."""

import logging

import nibabel as nib
import numpy as np
import pytest

from mtmed.bundle import check_inputs
from mtmed.errors import InputError
from mtmed.inferers import inference_cases

VOXELS = np.random.default_rng(0).normal(0, 5, (6, 5, 4)).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    def write(name, voxels, affine=None):
        path = tmp_path / f"{name}.nii.gz"
        nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_filename(path)
        return str(path)

    return write


def with_value(value):
    voxels = VOXELS.copy()
    voxels[1, 2, 3] = value
    return voxels


def test_sound_images_pass_also_the_same_one_twice(save, caplog):
    rows = inference_cases([save("a", VOXELS), save("b", VOXELS)], modalities=["CT"])
    with caplog.at_level(logging.INFO):
        check_inputs(rows, modalities=["CT"])
    (notice,) = [record.getMessage() for record in caplog.records]
    assert notice.startswith("Notice: input/b: has the same voxels as ")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_all_images_with_values_that_are_no_numbers_are_named(save, value):
    paths = [save("a", with_value(value)), save("b", VOXELS), save("c", with_value(value))]
    with pytest.raises(InputError) as caught:
        check_inputs(inference_cases(paths, modalities=["CT"]), modalities=["CT"])
    problem = "1 voxels are NaN or infinite, the first at (1, 2, 3)"
    assert [line.partition("; ")[0] for line in str(caught.value).splitlines()] == [
        f"{path}: {problem}" for path in (paths[0], paths[2])
    ]


def test_an_image_with_frames_is_refused(save):
    rows = inference_cases(save("a", np.stack([VOXELS, VOXELS], -1)), modalities=["CT"])
    with pytest.raises(InputError, match=r"is 4D \(6x5x4x2\), expected 3D"):
        check_inputs(rows, modalities=["CT"])


def test_modalities_on_other_grids_are_refused_unless_they_are_resampled(save):
    source = {"FLAIR": save("flair", VOXELS), "T1": save("t1", VOXELS[:5])}
    rows = inference_cases(source, modalities=["FLAIR", "T1"])
    with pytest.raises(InputError, match="has 5x5x4 voxels"):
        check_inputs(rows, modalities=["FLAIR", "T1"])
    check_inputs(rows, modalities=["FLAIR", "T1"], other_grids="resample")


def test_a_modality_that_a_case_lacks_is_said(save, caplog):
    rows = inference_cases({"T1": save("t1", VOXELS)}, modalities=["FLAIR", "T1"], allow_missing=True)
    with caplog.at_level(logging.INFO):
        check_inputs(rows, modalities=["FLAIR", "T1"])
    assert "Notice: input/t1: has no FLAIR" in caplog.messages


def test_files_that_declare_no_orientation_are_refused_if_sides_count(save):
    path = save("a", VOXELS)
    image = nib.load(path)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    plain = path.replace("a.nii.gz", "b.nii.gz")
    nib.save(image, plain)
    rows = inference_cases(plain, modalities=["CT"])
    check_inputs(rows, modalities=["CT"])
    with pytest.raises(InputError, match="declares no orientation"):
        check_inputs(rows, modalities=["CT"], require_orientation=True)
