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
from scipy.spatial.transform import Rotation

from mtmed.errors import InputError
from mtmed.transforms import SeparableSpacingd, nifti
from mtmed.transforms.reading import LoadVolumed, NiftiVolume, read_nifti, read_volume
from mtmed.transforms.resampling import field_of_view_overlap

OBLIQUE = np.array([[1.4, -0.3, 0.1, 10], [0.4, 1.9, 0.3, -3], [-0.1, -0.2, 3.1, 5], [0, 0, 0, 1.0]])
LAS = np.diag([-1.2, 1.2, 2.5, 1.0]) + np.eye(4, k=3) * 30
RPI = np.diag([1.0, -1.0, -3.0, 1.0])
ANISOTROPIC = np.diag([0.7, 0.9, 5.0, 1.0])
GRIDS = {"oblique": OBLIQUE, "las": LAS, "rpi": RPI, "anisotropic": ANISOTROPIC}


def save(path: Path, *, affine=None, dtype=np.int16, shape=(7, 6, 5), units="mm", seed=0) -> Path:
    voxels = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    image = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


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


def itk_resample(moving: Path, fixed: Path, interpolator=SimpleITK.sitkLinear) -> np.ndarray:
    """The moving file on the fixed file's grid, in float64, by SimpleITK."""
    image = SimpleITK.ReadImage(str(moving), SimpleITK.sitkFloat64)
    resampled = SimpleITK.Resample(image, SimpleITK.ReadImage(str(fixed)), SimpleITK.Transform(), interpolator, 0.0)
    return SimpleITK.GetArrayFromImage(resampled).transpose(2, 1, 0)


ROTATED = np.array([[0.9, -0.3, 0.1, -20], [0.3, 0.9, 0.0, -30], [-0.1, 0.05, 1.1, -18], [0, 0, 0, 1.0]])
# the same region of the patient for all
OTHER_GRIDS = {
    "finer": np.diag([0.7, 0.7, 0.9, 1.0]) + np.eye(4, k=3) * -9,
    "flipped": np.array([[-1.1, 0, 0, 9], [0, 1.0, 0, -9], [0, 0, -2.0, 14], [0, 0, 0, 1.0]]),
    "axes swapped": np.array([[0, 0, 3.0, -12], [-0.8, 0, 0, 9], [0, 1.2, 0, -15], [0, 0, 0, 1.0]]),
    "oblique": np.eye(4),
}
OTHER_GRIDS["oblique"][:3, :3] = Rotation.from_euler("xyz", (20, -10, 15), degrees=True).as_matrix() * (1.0, 0.9, 1.9)
OTHER_GRIDS["oblique"][:3, 3] = (-12, -14, -9)


@pytest.fixture
def flair(tmp_path):
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    affine[:3, 3] = (-10, -12, -9)
    return save(tmp_path / "flair.nii.gz", affine=affine, shape=(20, 22, 13))


@pytest.mark.parametrize("grid", OTHER_GRIDS)
def test_images_on_other_grids_are_resampled_as_simpleitk_does(tmp_path, flair, grid):
    t1 = save(tmp_path / "t1.nii.gz", affine=OTHER_GRIDS[grid], shape=(21, 24, 15), dtype=np.int16, seed=1)
    loaded = LoadVolumed("image", other_grids="resample")({"image": [str(flair), str(t1)]})["image"]
    np.testing.assert_array_equal(loaded[0].numpy(), read_nifti(flair).data)
    expected = itk_resample(t1, flair)
    assert 0.05 < (expected == 0).mean() < 0.9
    np.testing.assert_allclose(loaded[1].numpy(), expected, atol=2e-3)
    np.testing.assert_array_equal(loaded.affine.numpy(), read_nifti(flair).affine)
    assert loaded.meta["filename_or_obj"] == str(flair)


@pytest.mark.parametrize("grid", OTHER_GRIDS)
def test_labels_and_maps_on_other_grids_take_the_nearest_voxel(tmp_path, flair, grid):
    other = save(tmp_path / "other.nii.gz", affine=OTHER_GRIDS[grid], shape=(21, 24, 15), dtype=np.uint8, seed=2)
    data = {"image": str(flair), "label": [str(other), str(other)], "tissue": str(other)}
    loaded = LoadVolumed(["image", "label", "tissue"], other_grids="resample")(data)
    expected = itk_resample(other, flair, SimpleITK.sitkNearestNeighbor)
    assert loaded["label"].shape == (2, 20, 22, 13)
    for channel in (loaded["label"][0], loaded["label"][1], loaded["tissue"][0]):
        # halfway between two voxels either is right
        assert np.mean(channel.numpy() == expected) > 0.995
    assert set(np.unique(loaded["tissue"].numpy())) <= set(np.unique(read_nifti(other).data)) | {0}


def test_resampling_a_linear_function_of_place_gives_that_function(tmp_path, flair):
    def place(shape, affine):
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        return (index @ affine[:3, :3].T + affine[:3, 3]) @ [2.0, -1.0, 0.5]

    shape = (40, 60, 45)
    nib.save(nib.Nifti1Image(place(shape, ROTATED).astype(np.float32), ROTATED), tmp_path / "plane.nii.gz")
    paths = [str(flair), str(tmp_path / "plane.nii.gz")]
    loaded = LoadVolumed("image", other_grids="resample")({"image": paths})["image"]
    expected = place((20, 22, 13), read_nifti(flair).affine)
    inner = (slice(6, 14), slice(6, 16), slice(4, 9))
    assert np.abs(expected[inner]).max() > 5
    np.testing.assert_allclose(loaded[1].numpy()[inner], expected[inner], atol=1e-4)


def test_files_on_one_grid_are_not_touched_by_resampling(tmp_path, flair):
    affine = read_nifti(flair).affine
    near = save(tmp_path / "near.nii.gz", affine=affine + np.eye(4, k=3) * 0.05, shape=(20, 22, 13), seed=3)
    data = {"image": [str(flair), str(near)]}
    loaded = LoadVolumed("image", other_grids="resample", keep_integers=True)(data)["image"]
    assert loaded.dtype == torch.int16
    np.testing.assert_array_equal(loaded[1].numpy(), read_nifti(near).data)


def test_a_mirrored_copy_comes_back_exactly(tmp_path, flair):
    source = nib.load(flair)
    nib.save(source.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]])), tmp_path / "turned.nii.gz")
    data = {"image": str(flair), "label": str(tmp_path / "turned.nii.gz")}
    for keys in (["image", "label"], ["image"]):
        given = data if len(keys) > 1 else {"image": list(data.values())}
        loaded = LoadVolumed(keys, other_grids="resample")(given)
        turned = loaded["label"][0] if len(keys) > 1 else loaded["image"][1]
        np.testing.assert_array_equal(turned.numpy(), read_nifti(flair).data)


def test_fields_of_view_that_do_not_overlap_are_refused_with_both_affines(tmp_path, flair):
    far = save(tmp_path / "far.nii.gz", affine=np.diag([1.0, 1.0, 1.5, 1.0]) + np.eye(4, k=3) * 200)
    with pytest.raises(InputError) as caught:
        LoadVolumed("image", other_grids="resample")({"image": [str(flair), str(far)]})
    line = str(caught.value)
    assert "far.nii.gz: shares no part of its field of view with" in line
    assert "[1 0 0 200; 0 1 0 0; 0 0 1.5 0]" in line
    assert "[1 0 0 -10; 0 1 0 -12; 0 0 1.5 -9]" in line
    assert "\n" not in line


@pytest.mark.parametrize(("shift", "overlap"), [(0, 1.0), (5, 0.75), (15, 0.25), (20, 0.0), (-15, 0.25)])
def test_the_overlap_is_the_share_of_the_smaller_field_of_view(shift, overlap):
    large = NiftiVolume(np.zeros((20, 30, 40), np.uint8), np.diag([1.0, 2.0, 1.0, 1]), (1.0, 2.0, 1.0), {}, "a")
    affine = np.array([[0, 0, 2.0, 0.5 + shift], [1.0, 0, 0, 3], [0, 1.0, 0, 3], [0, 0, 0, 1]])
    small = NiftiVolume(np.zeros((8, 9, 10), np.uint8), affine, (1.0, 1.0, 2.0), {}, "b")
    assert field_of_view_overlap(large, small) == pytest.approx(overlap, abs=0.02)
    assert field_of_view_overlap(small, large) == pytest.approx(overlap, abs=0.02)


def test_a_missing_modality_is_a_channel_of_zeros(flair):
    voxels = read_nifti(flair).data
    loaded = LoadVolumed("image")({"image": [None, str(flair), None]})["image"]
    assert loaded.shape == (3, 20, 22, 13)
    assert not loaded[0].any()
    assert not loaded[2].any()
    np.testing.assert_array_equal(loaded[1].numpy(), voxels)
    assert loaded.meta["filename_or_obj"] == str(flair)
    np.testing.assert_array_equal(loaded.affine.numpy(), read_nifti(flair).affine)
    assert Orientationd("image", "RAS", labels=None)({"image": loaded})["image"].shape == (3, 20, 22, 13)


def test_the_grid_is_that_of_the_first_image_that_is_there(tmp_path, flair):
    t1 = save(tmp_path / "t1.nii.gz", affine=OTHER_GRIDS["finer"], shape=(21, 24, 15), seed=1)
    data = {"image": [None, str(t1)], "label": str(flair)}
    loaded = LoadVolumed(["image", "label"], other_grids="resample")(data)
    assert loaded["label"].shape == (1, 21, 24, 15)
    np.testing.assert_array_equal(loaded["label"].affine.numpy(), read_nifti(t1).affine)


@pytest.mark.parametrize("paths", [None, [], [None], [None, None]])
def test_an_entry_without_any_file_is_refused(paths):
    with pytest.raises(InputError, match="image: no file is listed"):
        LoadVolumed("image")({"image": paths})


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match=r"other_grids: is 'resample', .* but same_affine is false"):
        LoadVolumed("image", other_grids="resample", same_affine=False)
    with pytest.raises(InputError, match="other_grids: is 'move'; use 'refuse' or 'resample'"):
        LoadVolumed("image", other_grids="move")


def test_slices_cannot_be_brought_to_another_grid(tmp_path):
    first = save(tmp_path / "a.nii.gz", shape=(7, 6))
    second = save(tmp_path / "b.nii.gz", shape=(7, 5))
    with pytest.raises(InputError, match=r"b\.nii\.gz: has 7x5 voxels, which cannot be brought to another grid"):
        LoadVolumed("image", other_grids="resample")({"image": [str(first), str(second)]})


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


@pytest.mark.real
def test_real_scans_on_grids_of_their_own_are_resampled_as_simpleitk_does(real_data):
    folder = real_data / "ms_open_longitudinal" / "patient01"
    paths = [folder / f"study1_{name}.nii.gz" for name in ("FLAIR", "T1W", "T2W")]
    loaded = LoadVolumed("image", other_grids="resample")({"image": [str(path) for path in paths]})["image"]
    assert len({read_nifti(path).data.shape for path in paths}) == 3
    for channel, path in zip(loaded[1:], paths[1:], strict=True):
        expected = itk_resample(path, paths[0])
        # intensities go to thousands; affines stored in single precision differ in the last digit
        np.testing.assert_allclose(channel.numpy(), expected, atol=0.05)
        # the scans show the same head: both are bright where the FLAIR is
        head = loaded[0].numpy() > 100
        assert channel.numpy()[head].mean() > 2 * channel.numpy()[~head].mean()
