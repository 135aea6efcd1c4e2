"""Label maps back on the image's grid: against SimpleITK's resampling and nibabel's reading."""

import errno
import json
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, Spacingd

from mtmed.errors import InputError
from mtmed.transforms.writing import (
    SaveLabelMapd,
    label_map_stem,
    resample_label_to,
    write_nifti_label,
)


def _rotation(angles):
    result = np.eye(3)
    for (i, j), angle in zip(((0, 1), (1, 2), (0, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def _affine(spacing, angles=(0.0, 0.0, 0.0), flips=(1, 1, 1), axes=(0, 1, 2), origin=(-31.3, 12.7, 5.9)):
    affine = np.eye(4)
    affine[:3, :3] = (_rotation(angles) @ np.diag(flips))[:, axes] * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def _as_sitk(array, affine):
    lps = np.diag([-1.0, -1.0, 1.0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((lps @ affine[:3, 3]).tolist())
    return image


GEOMETRIES = {
    "anisotropic": _affine((0.8, 0.9, 3.1)),
    "LAS": _affine((1.1, 1.3, 2.3), flips=(-1, 1, 1), origin=(20.1, 12.7, 5.9)),
    "RPI": _affine((1.1, 1.3, 2.3), flips=(1, -1, -1), origin=(-31.3, 39.9, 40.2)),
    "axes swapped": _affine((1.1, 2.3, 1.7), axes=(2, 0, 1)),
    "oblique": _affine((1.1, 1.3, 2.3), angles=(0.3, -0.2, 0.1)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_resampling_equals_simpleitk_nearest(name):
    rng = np.random.default_rng(0)
    label = rng.integers(1, 9, (21, 18, 17)).astype(np.uint8)
    affine = _affine((1.53, 1.47, 1.59), origin=(-30.11, 13.3, 6.07))
    like_shape, like_affine = (29, 27, 16), GEOMETRIES[name]
    reference = SimpleITK.Resample(
        _as_sitk(label, affine),
        _as_sitk(np.zeros(like_shape, np.uint8), like_affine),
        SimpleITK.Transform(),
        SimpleITK.sitkNearestNeighbor,
        0,
    )
    ours = resample_label_to(label, affine, like_shape, like_affine)
    assert ours.dtype == label.dtype
    assert (ours > 0).mean() > 0.02
    assert (ours == 0).any()
    assert np.array_equal(ours, SimpleITK.GetArrayFromImage(reference).transpose(2, 1, 0))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_grid_turned_to_ras_at_its_own_spacing_comes_back_exactly(name):
    rng = np.random.default_rng(1)
    label = rng.integers(0, 5, (13, 11, 9)).astype(np.float32)
    affine = GEOMETRIES[name]
    tensor = MetaTensor(torch.from_numpy(label)[None], affine=torch.from_numpy(affine))
    there = Orientationd("label", axcodes="RAS")({"label": tensor})["label"]
    back = resample_label_to(there[0].numpy(), there.affine.numpy(), label.shape, affine)
    assert np.array_equal(back, label)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("spacing", [1.5, 4.0])
def test_the_networks_grid_reaches_every_voxel_of_the_image(name, spacing):
    tensor = MetaTensor(torch.ones(1, 23, 22, 21), affine=torch.from_numpy(GEOMETRIES[name]))
    chain = Compose([Orientationd("x", axcodes="RAS"), Spacingd("x", pixdim=(spacing,) * 3, mode="nearest")])
    there = chain({"x": tensor})["x"]
    filled = np.ones(there.shape[1:], np.uint8)
    assert resample_label_to(filled, there.affine.numpy(), (23, 22, 21), GEOMETRIES[name]).all()


def test_what_lies_outside_is_background():
    label = np.ones((4, 4, 4), np.uint8)
    far = np.eye(4)
    far[:3, 3] = -2
    assert resample_label_to(label, np.eye(4), (8, 8, 8), far).sum() == 64
    turned = _affine((1, 1, 1), angles=(0.2, 0.1, 0.3), origin=(100, 100, 100))
    assert not resample_label_to(label, np.eye(4), (5, 5, 5), turned).any()


def _write_image(path, shape=(6, 7, 8), affine=None, dtype=np.int16):
    image = nib.Nifti1Image(np.zeros(shape, dtype), GEOMETRIES["oblique"] if affine is None else affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 4)
    image.header.set_slope_inter(2.0, -1024.0)
    image.to_filename(path)
    return path


def test_written_file_has_the_images_geometry_and_whole_numbers(tmp_path):
    source = _write_image(tmp_path / "ct.nii.gz")
    label = np.random.default_rng(0).integers(0, 14, (6, 7, 8))
    write_nifti_label(tmp_path / "out.nii.gz", label, like=source)
    ours, theirs = nib.load(tmp_path / "out.nii.gz"), nib.load(source)
    assert np.array_equal(np.asanyarray(ours.dataobj), label)
    assert ours.get_data_dtype() == np.uint8
    assert np.array_equal(ours.affine, theirs.affine)
    for field in ("sform_code", "qform_code", "xyzt_units", "pixdim", "srow_x", "quatern_b", "qoffset_x", "dim"):
        assert np.array_equal(ours.header[field], theirs.header[field]), field


def test_writing_again_gives_the_same_bytes(tmp_path):
    source = _write_image(tmp_path / "ct.nii.gz")
    label = np.ones((6, 7, 8), np.uint8)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti_label(tmp_path / name, label, like=source)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    write_nifti_label(tmp_path / "c.nii", label, like=source)
    assert np.asanyarray(nib.load(tmp_path / "c.nii").dataobj).sum() == label.size


def test_a_single_frame_keeps_its_fourth_axis(tmp_path):
    source = _write_image(tmp_path / "ct.nii.gz", shape=(6, 7, 8, 1))
    write_nifti_label(tmp_path / "out.nii.gz", np.ones((6, 7, 8), np.uint8), like=source)
    assert nib.load(tmp_path / "out.nii.gz").shape == (6, 7, 8, 1)


def test_the_integer_type_is_the_smallest_that_holds_the_highest_label(tmp_path):
    source = _write_image(tmp_path / "ct.nii.gz")
    for highest, dtype in ((1, np.uint8), (255, np.uint8), (256, np.int16), (40000, np.int32)):
        write_nifti_label(tmp_path / "out.nii.gz", np.ones((6, 7, 8)), like=source, highest_label=highest)
        assert nib.load(tmp_path / "out.nii.gz").get_data_dtype() == dtype


@pytest.mark.parametrize(
    ("value", "match"), [(300, "do not fit 0 to 255"), (-1, "do not fit"), (0.5, "fractions"), (np.nan, "not finite")]
)
def test_values_that_do_not_fit_are_refused(tmp_path, value, match):
    source = _write_image(tmp_path / "ct.nii.gz")
    label = np.zeros((6, 7, 8))
    label[1, 1, 1] = value
    with pytest.raises(InputError, match=match):
        write_nifti_label(tmp_path / "out.nii.gz", label, like=source, highest_label=255)
    assert not (tmp_path / "out.nii.gz").exists()


def test_another_shape_and_the_input_itself_are_refused(tmp_path):
    source = _write_image(tmp_path / "ct.nii.gz")
    with pytest.raises(InputError, match="has the shape"):
        write_nifti_label(tmp_path / "out.nii.gz", np.zeros((7, 6, 8), np.uint8), like=source)
    with pytest.raises(InputError, match="never overwritten"):
        write_nifti_label(source, np.zeros((6, 7, 8), np.uint8), like=source)


def test_a_full_disk_is_named_and_leaves_the_old_file_and_no_fragment(tmp_path, monkeypatch):
    source = _write_image(tmp_path / "ct.nii.gz")
    write_nifti_label(tmp_path / "out.nii.gz", np.ones((6, 7, 8), np.uint8), like=source)
    before = (tmp_path / "out.nii.gz").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"out\.nii\.gz: no space left"):
        write_nifti_label(tmp_path / "out.nii.gz", np.zeros((6, 7, 8), np.uint8), like=source)
    assert (tmp_path / "out.nii.gz").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ct.nii.gz", "out.nii.gz"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        SaveLabelMapd("pred", tmp_path / "file", label_names={0: "background"})


def test_name_without_folder_and_format():
    assert label_map_stem("/data/ct.v2.nii.gz") == "ct.v2"
    assert label_map_stem("x/ct.NII") == "ct"
    assert label_map_stem("x/ct.nrrd") == "ct"


def _prediction(source):
    image = nib.load(source)
    meta = {
        "filename_or_obj": str(source),
        "original_affine": image.affine,
        "spatial_shape": np.asarray(image.shape[:3]),
    }
    tensor = MetaTensor(torch.ones(1, 6, 7, 8, dtype=torch.uint8), affine=torch.from_numpy(image.affine), meta=meta)
    return Orientationd("pred", axcodes="RAS")({"pred": tensor})["pred"]


def test_transform_writes_the_label_map_and_what_made_it(tmp_path):
    source = _write_image(tmp_path / "ct.nii.gz", affine=GEOMETRIES["RPI"])
    save = SaveLabelMapd(
        "pred", tmp_path / "out", label_names={"0": "background", "1": "liver"}, record={"model_sha256": "abc"}
    )
    save({"pred": _prediction(source)})
    written = nib.load(tmp_path / "out" / "ct_seg.nii.gz")
    assert np.asanyarray(written.dataobj).all()
    assert np.array_equal(written.affine, nib.load(source).affine)
    record = json.loads((tmp_path / "out" / "ct_seg.json").read_text())
    assert record["model_sha256"] == "abc"
    assert record["label_names"] == {"0": "background", "1": "liver"}
    assert record["image"] == str(source)


def test_two_images_of_one_name_never_share_a_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (_write_image(tmp_path / name / "ct.nii.gz") for name in ("a", "b"))
    save = SaveLabelMapd("pred", tmp_path / "out", label_names={0: "background", 1: "liver"})
    save({"pred": _prediction(first)})
    save({"pred": _prediction(first)})
    with pytest.raises(InputError, match="of both"):
        save({"pred": _prediction(second)})
    save({"pred": _prediction(second), "output_name": "b_ct"})
    assert (tmp_path / "out" / "b_ct_seg.nii.gz").exists()


def test_a_folder_of_slices_is_called_like_its_scan(tmp_path):
    scans = tmp_path / "case123.5" / "case123_day20" / "scans"
    scans.mkdir(parents=True)
    assert label_map_stem(scans) == "case123_day20"
    assert label_map_stem(f"{scans.parent}/") == "case123_day20"
    assert label_map_stem(tmp_path / "case123.5") == "case123.5"
    assert label_map_stem("x/slice_0001_266_266_1.50_1.50.png") == "slice_0001_266_266_1.50_1.50"
