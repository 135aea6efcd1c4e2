"""Images, labels and maps on grids of their own are brought to the first image's, as SimpleITK does it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.transforms import (
    Orientationd,
)
from nifti_files import save
from scipy.spatial.transform import Rotation

from mtmed.errors import InputError
from mtmed.transforms.reading import LoadVolumed, NiftiVolume, read_nifti
from mtmed.transforms.resampling import field_of_view_overlap


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
