"""Volumes are read as nibabel and MONAI read them, and what is damaged is refused."""

import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    Spacingd,
)
from nifti_files import save

from mtmed.errors import InputError
from mtmed.transforms import SeparableSpacingd, nifti
from mtmed.transforms.reading import LoadVolumed, read_nifti, read_volume

OBLIQUE = np.array([[1.4, -0.3, 0.1, 10], [0.4, 1.9, 0.3, -3], [-0.1, -0.2, 3.1, 5], [0, 0, 0, 1.0]])
LAS = np.diag([-1.2, 1.2, 2.5, 1.0]) + np.eye(4, k=3) * 30
RPI = np.diag([1.0, -1.0, -3.0, 1.0])
ANISOTROPIC = np.diag([0.7, 0.9, 5.0, 1.0])
GRIDS = {"oblique": OBLIQUE, "las": LAS, "rpi": RPI, "anisotropic": ANISOTROPIC}


@pytest.fixture
def volume(tmp_path):
    return save(tmp_path / "scan.nii.gz", affine=OBLIQUE)


def edited(path: Path, **fields) -> Path:
    """The same file with header fields overwritten."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    header = np.frombuffer(raw, nib.Nifti1Header.template_dtype, 1)
    for name, value in fields.items():
        header[name][0] = value
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


def problem(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert str(path) in caught.value.culprit
    assert "\n" not in str(caught.value)
    return caught.value.problem


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2"])
def test_voxels_and_dtype_are_those_that_nibabel_reads(tmp_path, dtype):
    path = save(tmp_path / "a.nii.gz", dtype=dtype, affine=OBLIQUE)
    ours, theirs = read_nifti(path), nib.load(path)
    assert ours.data.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(ours.data, np.asarray(theirs.dataobj))
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    np.testing.assert_allclose(ours.spacing, np.linalg.norm(theirs.affine[:3, :3], axis=0))


def test_voxels_are_the_same_without_the_fast_inflate(volume, monkeypatch):
    import zlib

    fast = read_nifti(volume).data
    monkeypatch.setattr(nifti, "inflate", zlib)
    np.testing.assert_array_equal(read_nifti(volume).data, fast)


def test_uncompressed_and_second_version_files_are_read(tmp_path):
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(voxels, LAS), tmp_path / "a.nii")
    nib.save(nib.Nifti2Image(voxels, LAS), tmp_path / "b.nii.gz")
    for name in ("a.nii", "b.nii.gz"):
        np.testing.assert_array_equal(read_nifti(tmp_path / name).data, voxels)
        np.testing.assert_allclose(read_nifti(tmp_path / name).affine, LAS)


def test_slope_and_intercept_are_applied_as_nibabel_does(volume):
    edited(volume, scl_slope=0.37, scl_inter=-1024.5)
    data = read_nifti(volume).data
    assert data.dtype == np.float32
    np.testing.assert_array_equal(data, nib.load(volume).get_fdata().astype(np.float32))


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_units_of_length_are_honoured(tmp_path, unit, factor):
    path = save(tmp_path / "a.nii.gz", affine=np.diag([2.0, 2.0, 4.0, 1.0]), units=unit)
    np.testing.assert_allclose(read_nifti(path).spacing, np.array([2, 2, 4]) * factor)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_choice_between_sform_and_qform_is_that_of_nibabel(volume, codes):
    edited(volume, qform_code=codes[0], sform_code=codes[1], qoffset_x=77.0)
    ours = read_nifti(volume)
    np.testing.assert_allclose(ours.affine, nib.load(volume).affine)
    assert len(ours.notes) == (codes in [(0, 0), (1, 1)])


def test_every_cut_of_a_file_is_refused(volume):
    raw = volume.read_bytes()
    for length in range(0, len(raw), 3):
        volume.write_bytes(raw[:length])
        with pytest.raises(InputError, match=r"scan\.nii\.gz"):
            read_nifti(volume)


def test_no_flipped_bit_changes_a_voxel_in_silence(volume):
    raw, reference = volume.read_bytes(), read_nifti(volume)
    generator = np.random.default_rng(3)
    refused = 0
    for _ in range(400):
        damaged = bytearray(raw)
        damaged[generator.integers(len(raw))] ^= 1 << generator.integers(8)
        volume.write_bytes(damaged)
        try:
            read = read_nifti(volume)
        except InputError:
            refused += 1
        else:  # only the name and time stamp of the gzip header may differ
            np.testing.assert_array_equal(read.data, reference.data)
            np.testing.assert_array_equal(read.affine, reference.affine)
    assert refused > 360


def test_truncation_and_checksum_are_named(volume):
    raw = volume.read_bytes()
    volume.write_bytes(raw[:-30])
    assert problem(volume) == "gzip data end early"
    volume.write_bytes(raw[:-6] + b"\0\0" + raw[-4:])
    assert problem(volume) == "gzip checksum mismatch"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>login</html>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a git-lfs pointer"),
        (b"\x93NUMPY something", "is neither gzip nor NIfTI"),
        (gzip.compress(b"hello" * 100, mtime=0), "is not a NIfTI file"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path, content, expected):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    assert problem(path).startswith(expected)


def test_missing_files_folders_and_resource_files_are_refused(tmp_path):
    assert problem(tmp_path / "gone.nii.gz") == "no such file"
    (tmp_path / "folder.nii.gz").mkdir()
    assert problem(tmp_path / "folder.nii.gz").startswith("is a folder")
    assert problem(save(tmp_path / "._scan.nii.gz")).startswith("is a macOS resource file")


def test_plain_nifti_under_a_gzip_name_is_read_with_a_note(volume):
    reference = read_nifti(volume).data
    volume.write_bytes(gzip.decompress(volume.read_bytes()))
    read = read_nifti(volume)
    np.testing.assert_array_equal(read.data, reference)
    assert "plain" in read.notes[0]


def test_header_that_disagrees_with_the_data_is_refused(volume):
    assert "more than the file can hold" in problem(edited(volume, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]))
    assert "the file has" in problem(edited(volume, dim=[3, 7, 6, 6, 1, 1, 1, 1]))
    assert "bytes more" in problem(edited(volume, dim=[3, 7, 6, 3, 1, 1, 1, 1]))
    assert "shape" in problem(edited(volume, dim=[3, 7, 0, 5, 1, 1, 1, 1]))


@pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf, -352.0, 12.0])
def test_voxels_that_begin_nowhere_or_inside_the_header_are_refused(volume, offset):
    assert problem(edited(volume, vox_offset=offset)) == f"header claims that voxels begin at byte {offset:g}"


def test_a_path_that_no_file_system_takes_is_no_file(tmp_path):
    for name in ("a" * 300, "a" * 300 + ".nii.gz", "a\0b.png", "a/" * 3000):
        with pytest.raises(InputError, match="no such file"):
            read_volume(tmp_path / name)


def test_impossible_geometry_is_refused(tmp_path):
    def grid(**fields):
        return problem(edited(save(tmp_path / "a.nii.gz", affine=ANISOTROPIC), **fields))

    assert "spacing along axis 1" in grid(srow_y=[0, 0, 0, 0])
    assert "NaN" in grid(srow_x=[np.nan, 0, 0, 0])
    assert "singular" in grid(srow_x=[0.7, 0.9, 0, 0], srow_y=[0, 0, 0, 0])
    assert "scaling" in grid(scl_slope=np.inf)


def test_complex_and_colour_voxels_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.complex64), np.eye(4)), tmp_path / "c.nii.gz")
    colour = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii.gz")
    assert "one real number" in problem(tmp_path / "c.nii.gz")
    assert "one real number" in problem(tmp_path / "rgb.nii.gz")


def test_unknown_format_names_the_supported_ones(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    assert ".nii.gz, .nrrd" in problem(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_other_formats_have_the_same_voxels_and_ras_affine(tmp_path, suffix, volume):
    SimpleITK.WriteImage(
        SimpleITK.ReadImage(str(save(tmp_path / "las.nii.gz", affine=LAS))), str(tmp_path / f"a.{suffix}")
    )
    reference, read = read_volume(tmp_path / "las.nii.gz"), read_volume(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read.data, reference.data)
    np.testing.assert_allclose(read.affine, reference.affine, atol=1e-5)
    np.testing.assert_allclose(read.spacing, reference.spacing, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_loading_equals_that_of_monai(tmp_path, grid):
    path = str(save(tmp_path / "a.nii.gz", affine=GRIDS[grid]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = LoadVolumed("image")({"image": path})["image"]
    theirs = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])({"image": path})["image"]
    assert ours.dtype == theirs.dtype
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert torch.equal(ours.affine, theirs.affine)
    np.testing.assert_array_equal(ours.meta["original_affine"], theirs.meta["original_affine"])
    assert set(theirs.meta) <= set(ours.meta)


@pytest.mark.parametrize("grid", GRIDS)
def test_monai_transforms_inversion_and_saving_work_as_after_its_own_loader(tmp_path, grid):
    path = str(save(tmp_path / "a.nii.gz", affine=GRIDS[grid]))
    saved = []
    for loader in (LoadVolumed("image"), Compose([LoadImaged("image"), EnsureChannelFirstd("image")])):
        chain = Compose([loader, Orientationd("image", "RAS", labels=None), Spacingd("image", (1.1, 1.3, 2.0))])
        folder = tmp_path / f"out{len(saved)}"
        out = chain({"image": path})
        out["pred"] = out["image"].clone()
        back = Invertd("pred", chain, orig_keys="image", nearest_interp=False)(out)
        SaveImaged("pred", output_dir=folder, separate_folder=False, print_log=False)(back)
        saved.append((out["image"], back["pred"], nib.load(folder / "a_trans.nii.gz")))
    for ours, theirs in zip(saved[0][:2], saved[1][:2], strict=True):
        assert torch.equal(ours.as_tensor(), theirs.as_tensor())
        assert torch.equal(ours.affine, theirs.affine)
    np.testing.assert_array_equal(saved[0][2].get_fdata(), saved[1][2].get_fdata())
    np.testing.assert_allclose(saved[0][2].affine, GRIDS[grid], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_kept_integers_give_the_same_voxels_after_turning_and_resampling(tmp_path, dtype):
    path = str(save(tmp_path / "a.nii.gz", affine=LAS, dtype=dtype))
    results = []
    for keep in (False, True):
        loaded = LoadVolumed(["image", "label"], keep_integers=keep)({"image": path, "label": path})
        kept = keep and dtype in (np.uint8, np.int16)
        assert loaded["image"].dtype == (torch.from_numpy(np.zeros(1, dtype)).dtype if kept else torch.float32)
        turned = Orientationd(["image", "label"], "RAS", labels=None)(loaded)
        results.append(
            SeparableSpacingd(["image", "label"], pixdim=(1.1, 1.3, 2.0), mode=("bilinear", "nearest"))(turned)
        )
    for key in ("image", "label"):
        assert results[1][key].dtype == torch.float32
        assert torch.equal(results[0][key].as_tensor(), results[1][key].as_tensor())
        assert torch.equal(results[0][key].affine, results[1][key].affine)


def test_a_list_of_files_and_a_fourth_dimension_become_channels(tmp_path):
    paths = [str(save(tmp_path / f"{i}.nii.gz", seed=i)) for i in range(3)]
    stacked = LoadVolumed("image")({"image": paths})["image"]
    assert stacked.shape == (3, 7, 6, 5)
    for channel, path in zip(stacked, paths, strict=True):
        np.testing.assert_array_equal(channel.numpy(), read_nifti(path).data)
    nib.save(nib.Nifti1Image(np.moveaxis(stacked.numpy(), 0, -1), np.eye(4)), tmp_path / "4d.nii.gz")
    four = LoadVolumed("image")({"image": str(tmp_path / "4d.nii.gz")})["image"]
    assert torch.equal(four.as_tensor(), stacked.as_tensor())


def test_files_on_different_grids_are_refused(tmp_path):
    image = str(save(tmp_path / "image.nii.gz", affine=LAS))
    shifted = str(save(tmp_path / "shifted.nii.gz", affine=LAS + np.eye(4, k=3) * 15))
    larger = str(save(tmp_path / "larger.nii.gz", affine=LAS, shape=(7, 5, 6)))
    load = LoadVolumed(["image", "label"])
    with pytest.raises(InputError, match=r"shifted.*15 mm away"):
        load({"image": image, "label": shifted})
    with pytest.raises(InputError, match=r"larger.*7x5x6 voxels.*7x6x5"):
        load({"image": image, "label": larger})
    with pytest.raises(InputError, match="shifted"):
        load({"image": [image, shifted], "label": image})
    accepted = LoadVolumed(["image", "label"], same_affine=False)({"image": image, "label": shifted})
    assert torch.equal(accepted["label"].affine, accepted["image"].affine)
    assert load({"image": image, "label": image})["label"].shape == (1, 7, 6, 5)


def test_missing_keys_are_an_error_unless_allowed(volume):
    with pytest.raises(KeyError):
        LoadVolumed(["image", "label"])({"image": str(volume)})
    loaded = LoadVolumed(["image", "label"], allow_missing_keys=True)({"image": str(volume)})
    assert list(loaded) == ["image"]


@pytest.mark.real
def test_real_scans_are_read_as_nibabel_reads_them(real_data):
    path = next(iter(sorted((real_data / "ms_open_longitudinal").rglob("*FLAIR.nii.gz"))))
    ours, theirs = read_nifti(path), nib.load(path)
    np.testing.assert_allclose(ours.data, theirs.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(ours.affine, theirs.affine)
