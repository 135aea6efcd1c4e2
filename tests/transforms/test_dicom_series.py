"""Series of DICOM slices: voxels and geometry against ITK's own series reader and a NIfTI of the same volume."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from monai.transforms import Compose, Orientationd
from numpy.testing import assert_allclose, assert_array_equal
from series_folder import AXIAL, CORONAL, SAGITTAL, compress, oblique, turned, write_series

from mtmed.data.case import Case
from mtmed.data.slice_count import slices_of_cases
from mtmed.transforms import LoadVolumed
from mtmed.transforms.dicom_folder import dicom_files, is_dicom_series
from mtmed.transforms.dicom_series import series_axes
from mtmed.transforms.ras import axis_codes
from mtmed.transforms.reading import read_nifti, read_volume

VOXELS = np.random.default_rng(5).integers(-1000, 3000, (7, 5, 4)).astype(np.int16)  # slice, row, column
DOWN = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # the normal points to the feet
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
PLACES = {
    "axial": {},
    "from head to feet": {"step": (0, 0, -3)},
    "normal to the feet": {"orientation": DOWN},
    "normal to the feet, from feet to head": {"orientation": DOWN, "step": (0, 0, 3)},
    "prone": {"orientation": PRONE},
    "coronal": {"orientation": CORONAL, "spacing": (0.5, 1.25, 6.0)},
    "sagittal": {"orientation": SAGITTAL},
    "sagittal from left to right": {"orientation": SAGITTAL, "step": (3, 0, 0)},
    "oblique": {"orientation": oblique((12, -25, 40)), "spacing": (0.3, 0.9, 5.0)},
    "thin": {"spacing": (0.9, 0.9, 0.25)},
    "MR": {"modality": "MR", "orientation": oblique((80, 5, -10))},
}


def by_itk(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def itk_affine(image: SimpleITK.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize("name", PLACES)
def test_a_series_is_what_itk_and_a_nifti_of_it_say(tmp_path: Path, name: str) -> None:
    folder = write_series(tmp_path / "series", VOXELS, **PLACES[name])
    volume, image = read_volume(folder), by_itk(folder)
    assert volume.data.dtype == np.int16
    assert_array_equal(volume.data, SimpleITK.GetArrayFromImage(image).T)
    assert_allclose(volume.affine, itk_affine(image), atol=1e-5)
    assert_allclose(volume.spacing, image.GetSpacing(), atol=1e-6)
    SimpleITK.WriteImage(image, str(tmp_path / "same.nii.gz"))
    nifti = read_nifti(tmp_path / "same.nii.gz")
    assert_array_equal(volume.data, nifti.data)
    assert_allclose(volume.affine, nifti.affine, atol=1e-5)
    assert (volume.header, volume.notes, volume.oriented) == ({}, (), True)
    assert volume.path == str(folder)


def test_each_pixel_lies_where_the_standard_puts_it(tmp_path: Path) -> None:
    orientation, spacing, origin = oblique((12, -25, 40)), (0.3, 0.9, 5.0), np.array((3.0, -7.0, 11.0))
    volume = read_volume(write_series(tmp_path, VOXELS, orientation=orientation, spacing=spacing, origin=origin))
    # DICOM PS3.3 C.7.6.2.1.1, with the column of the first direction
    columns, rows = np.array(orientation[:3]), np.array(orientation[3:])
    corner = origin + 5 * 5.0 * np.cross(columns, rows)
    place = corner + columns * 0.3 * 2 + rows * 0.9 * 4
    assert_allclose((volume.affine @ (2, 4, 5, 1))[:3], place * (-1, -1, 1), atol=1e-4)
    assert volume.data[2, 4, 5] == VOXELS[5, 4, 2]


def test_neither_names_nor_numbers_nor_slice_locations_order_the_slices(tmp_path: Path) -> None:
    def mislead(index: int, header) -> None:
        header.InstanceNumber = str((index * 3) % 7 + 1)
        header.SliceLocation = str(-index)

    order = np.random.default_rng(1).permutation(7)
    folder = write_series(tmp_path, VOXELS, change=mislead)
    for index, other in enumerate(order):
        (folder / f"IM{index + 1:04d}.dcm").rename(folder / f"{other}.dcm")
    assert_array_equal(read_volume(folder).data, VOXELS.T)


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, 0), (0.37, -3.5)])
def test_slope_and_intercept_give_the_intensities(tmp_path: Path, slope: float, intercept: float) -> None:
    volume = read_volume(write_series(tmp_path, VOXELS, slope=slope, intercept=intercept))
    assert volume.data.dtype.kind == "i" if slope != 0.37 else volume.data.dtype == np.float32
    assert_allclose(volume.data, VOXELS.T * slope + intercept, rtol=1e-6)


@pytest.mark.parametrize("slopes", [(1, 2, 3), (1, 1.5, 2), (0.5, 1, 2)])
def test_each_slice_has_a_slope_of_its_own(tmp_path: Path, slopes: tuple[float, ...]) -> None:
    def scale(index: int, header) -> None:
        header.RescaleSlope = str(slopes[index % 3])

    volume = read_volume(write_series(tmp_path, VOXELS, change=scale))
    expected = VOXELS * np.array([slopes[index % 3] for index in range(7)])[:, None, None]
    assert_array_equal(volume.data, expected.T.astype(volume.data.dtype))
    assert volume.data.dtype == (np.int32 if slopes == (1, 2, 3) else np.float32)


@pytest.mark.parametrize("name", ["IM{:04d}", "1.2.840.113619.{}", "{:06d}.IMA", "{}.DICOM"])
def test_slices_may_have_any_usual_name_and_other_files_beside_them(tmp_path: Path, name: str) -> None:
    folder = write_series(tmp_path, VOXELS, name=name)
    for other in ("DICOMDIR", "._IM0001", "notes.txt", "label.nii.gz", ".DS_Store"):
        (folder / other).write_bytes(b"\0" * 200)
    assert len(dicom_files(folder)) == 7
    assert is_dicom_series(folder)
    assert_array_equal(read_volume(folder).data, VOXELS.T)


def test_one_slice_is_as_deep_as_it_is_thick(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path, VOXELS[:1], spacing=(0.8, 0.7, 5.0)))
    assert (volume.data.shape, volume.spacing) == ((4, 5, 1), (0.8, 0.7, 5.0))
    assert volume.notes == ("is a series of one slice; its thickness of 5 mm is taken",)


def test_places_that_are_rounded_are_even(tmp_path: Path) -> None:
    def round_place(index: int, header) -> None:
        header.ImagePositionPatient = [str(round(value, 1)) for value in (-20.5, -31.25, 12 + index * 0.75)]

    volume = read_volume(write_series(tmp_path, VOXELS, spacing=(0.8, 0.7, 0.75), change=round_place))
    assert volume.spacing[2] == pytest.approx(0.75, abs=0.02)


def test_a_shift_of_less_than_the_tolerance_is_in_the_affine(tmp_path: Path) -> None:
    folder = write_series(tmp_path, VOXELS, orientation=turned(AXIAL, 0.1), step=(0, 0, 3))
    volume = read_volume(folder)
    last = volume.affine @ (0, 0, 6, 1)
    assert_allclose(last[:3], (20.5, 31.25, 12 + 6 * 3), atol=1e-6)


def test_compressed_slices_are_read_without_loss(tmp_path: Path) -> None:
    voxels = np.tile(VOXELS[:3], (1, 8, 8))
    folder = write_series(tmp_path, voxels)
    for path in folder.iterdir():
        compress(path)
    assert_array_equal(read_volume(folder).data, voxels.T)


def test_a_series_is_loaded_as_any_volume_is(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", VOXELS, orientation=SAGITTAL)
    SimpleITK.WriteImage(by_itk(folder) > 0, str(tmp_path / "label.nii.gz"))
    chain = Compose(
        [LoadVolumed(["image", "label"], keep_integers=True), Orientationd(["image", "label"], "RAS", labels=None)]
    )
    loaded = chain({"image": str(folder), "label": str(tmp_path / "label.nii.gz")})
    assert axis_codes(loaded["image"].affine) == "RAS"
    assert_array_equal(loaded["label"], loaded["image"] > 0)
    assert set(loaded["image"].meta) <= {
        "affine",
        "original_affine",
        "as_closest_canonical",
        "spatial_shape",
        "space",
    } | {
        "original_channel_dim",
        "filename_or_obj",
    }


@pytest.mark.parametrize(("name", "slices"), [("axial", 7), ("coronal", 5), ("sagittal", 5)])
def test_axial_slices_are_counted_from_the_headers(tmp_path: Path, name: str, slices: int) -> None:
    folder = write_series(tmp_path, VOXELS, **PLACES[name])
    assert series_axes(folder)[0] == (4, 5, 7)
    assert slices_of_cases([Case(id="a", image=(str(folder),), label=None, group="a", dataset="b")]) == slices
