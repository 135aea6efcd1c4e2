"""Series of DICOM slices that are no volume: one line that names the culprit, with numbers and a remedy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from series_folder import AXIAL, SAGITTAL, compress, oblique, turned, write_series
from x_ray_file import write_x_ray

from mtmed.errors import InputError
from mtmed.transforms.dicom_folder import is_dicom_series
from mtmed.transforms.reading import read_volume

VOXELS = np.random.default_rng(6).integers(-1000, 3000, (12, 5, 4)).astype(np.int16)
CORNER = (-20.5, -31.25, 12.0)


def message(folder: Path, culprit: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.culprit == str(culprit or folder)
    return f"{caught.value.problem}; {caught.value.remedy}"


def remove(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"IM{number:04d}.dcm").unlink()


def placed(heights: Callable[[int], float], shift: Callable[[int], float] = lambda index: 0.0):
    def change(index: int, header) -> None:
        header.ImagePositionPatient = [CORNER[0] + shift(index), CORNER[1], heights(index)]

    return change


def test_a_gap_is_told_by_its_ends(tmp_path: Path) -> None:
    remove(write_series(tmp_path, VOXELS), 2, 3)
    assert message(tmp_path) == (
        "has a gap between z=12 and z=21 mm, slices are 3 mm apart (about 2 missing); "
        "copy or download the whole series again, or leave it out"
    )


def test_a_gap_of_other_planes_is_told_along_their_axis(tmp_path: Path) -> None:
    remove(write_series(tmp_path / "a", VOXELS, orientation=SAGITTAL), 4)
    assert "gap between x=-26.5 and x=-32.5 mm" in message(tmp_path / "a")
    remove(write_series(tmp_path / "b", VOXELS, orientation=oblique((10, 20, 30)), origin=(0, 0, 0)), 4)
    assert "gap between 6 and 12 mm along their normal, slices" in message(tmp_path / "b")


def test_several_gaps_are_counted(tmp_path: Path) -> None:
    remove(write_series(tmp_path, VOXELS), 5, 9, 10)
    assert "between z=21 and z=27 mm (and 1 more), slices are 3 mm apart (about 3 missing)" in message(tmp_path)


def test_uneven_slices_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "one", VOXELS, change=placed(lambda index: 12 + 3 * index + (index == 7)))
    assert message(tmp_path / "one").startswith(
        "has slices that are unevenly apart, by 2 to 4 mm: one lies 1 mm off its regular place, 0.3 mm (a tenth of the "
        "distance) are allowed; resample it"
    )
    write_series(tmp_path / "many", VOXELS, change=placed(lambda index: 12 + 3 * index + 3 * (index // 2)))
    assert "unevenly apart, by 3 to 6 mm" in message(tmp_path / "many")


@pytest.mark.parametrize("degrees", [15, -5, 0.5])
def test_a_tilted_gantry_is_told_with_its_angle(tmp_path: Path, degrees: float) -> None:
    write_series(tmp_path, VOXELS, orientation=turned(AXIAL, degrees), step=(0, 0, 3))
    assert message(tmp_path) == (
        f"has a gantry tilt: its slices are shifted {abs(degrees):g} degrees off their normal, 0.2 are allowed; "
        "resample it with a converter that does so, such as dcm2niix, and use its .nii.gz"
    )


def test_a_slice_beside_the_others_is_named(tmp_path: Path) -> None:
    write_series(tmp_path, VOXELS, change=placed(lambda index: 12 + 3 * index, lambda index: 9.0 * (index == 6)))
    assert message(tmp_path, tmp_path / "IM0007.dcm").startswith(
        "lies 9 mm beside the line of the other slices, 0.3 mm"
    )


def test_series_are_told_by_their_files_and_not_by_their_names(tmp_path: Path) -> None:
    def describe(index: int, header) -> None:
        header.SeriesDescription = "Secret"

    write_series(tmp_path, VOXELS, change=describe)
    write_series(tmp_path, VOXELS[:5], series=2, name="B{}.dcm", change=describe)
    said = message(tmp_path)
    assert said == "holds slices of 2 series (5 from B1.dcm, 12 from IM0001.dcm); give every series a folder of its own"


def test_two_slices_at_one_place_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "one", VOXELS, change=placed(lambda index: 12.0 + 3 * (3 if index == 4 else index)))
    assert message(tmp_path / "one").startswith(
        "has two slices at z=21 mm (IM0004.dcm and IM0005.dcm); leave one of each"
    )
    write_series(tmp_path / "all", VOXELS, change=placed(lambda index: 12.0 + 3 * (index % 6)))
    assert ", 6 such pairs among 12 slices; " in message(tmp_path / "all")


@pytest.mark.parametrize("left", [1.0, 0.5, 0.1])
def test_a_slice_that_ends_early_is_named(tmp_path: Path, left: float) -> None:
    path = write_series(tmp_path, VOXELS) / "IM0003.dcm"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left) - 1])
    assert "cannot be read as DICOM: it is damaged" in message(tmp_path, path)
    path.write_bytes(b"")
    assert message(tmp_path, path) == "is empty; copy or download the file again"


def test_a_damaged_slice_is_not_passed_over_for_its_name(tmp_path: Path) -> None:
    folder = write_series(tmp_path, VOXELS, name="IM{}")
    (folder / "IM1").write_bytes(b"no picture" * 30)
    assert is_dicom_series(folder)
    assert "cannot be read as DICOM" in message(folder, folder / "IM1")


def test_pixels_that_are_fewer_than_the_header_claims_are_refused(tmp_path: Path) -> None:
    def shorten(index: int, header) -> None:
        if index == 2:
            header.PixelData = b"\0" * 20

    write_series(tmp_path, VOXELS, change=shorten)
    assert message(tmp_path, tmp_path / "IM0003.dcm").startswith("has 20 bytes of pixels, its header claims 40;")


def test_compressed_pixels_that_end_early_are_refused(tmp_path: Path) -> None:
    path = compress(write_series(tmp_path, np.tile(VOXELS[:3], (1, 8, 8))) / "IM0003.dcm")
    assert read_volume(tmp_path).data.shape == (32, 40, 3)
    whole = path.read_bytes()
    for cut in (2, 9, 200):
        path.write_bytes(whole[:-cut])
        assert "end early" in message(tmp_path, path).replace("ends", "end")
    mark = whole.rindex(b"\xfe\xff\xdd\xe0")
    path.write_bytes(whole[:mark] + b"\0" * 8)
    assert "end early" in message(tmp_path, path).replace("ends", "end")


def test_a_plane_that_turns_is_named(tmp_path: Path) -> None:
    def turn(index: int, header) -> None:
        if index > 4:
            header.ImageOrientationPatient = list(turned(AXIAL, 10))

    write_series(tmp_path, VOXELS, change=turn)
    said = message(tmp_path, tmp_path / "IM0006.dcm")
    assert said.startswith("is turned by 10 degrees against the first slice of its series (IM0001.dcm);")


def test_other_sizes_and_pixels_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VOXELS)
    write_series(tmp_path / "a", VOXELS[:1, :4], name="X.dcm")
    said = message(tmp_path / "a", tmp_path / "a" / "X.dcm")
    assert said.startswith("is 4x4 pixels, the first slice of its series (IM0001.dcm) 4x5;")

    def widen(index: int, header) -> None:
        if index == 3:
            header.PixelSpacing = ["0.7", "0.9"]

    write_series(tmp_path / "b", VOXELS, change=widen)
    said = message(tmp_path / "b", tmp_path / "b" / "IM0004.dcm")
    assert said.startswith("has pixels of 0.9 x 0.7 mm, the first slice of its series (IM0001.dcm) 0.8 x 0.7 mm;")


@pytest.mark.parametrize("field", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_without_its_place_is_named(tmp_path: Path, field: str) -> None:
    def forget(index: int, header) -> None:
        if index == 1:
            delattr(header, field)

    write_series(tmp_path, VOXELS, change=forget)
    said = message(tmp_path, tmp_path / "IM0002.dcm")
    assert said.startswith("has no ")
    assert f"({field}); export the series again with its geometry" in said


def test_geometry_that_is_none_is_refused(tmp_path: Path) -> None:
    spoilt = {
        "PixelSpacing": (["0", "0.7"], "has pixels of 0.7 x 0 mm"),
        "ImagePositionPatient": (
            ["1", "2"],
            "has a position in the patient (ImagePositionPatient) that is not 3 numbers",
        ),
        "ImageOrientationPatient": (["1", "0", "0", "1", "0", "0"], "that are not perpendicular"),
    }
    for field, (value, expected) in spoilt.items():

        def spoil(index: int, header, field=field, value=value) -> None:
            setattr(header, field, value)

        folder = write_series(tmp_path / field, VOXELS, change=spoil)
        assert expected in message(folder, folder / "IM0001.dcm")


def test_one_slice_without_a_thickness_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, VOXELS[:1], change=lambda index, header: delattr(header, "SliceThickness"))
    assert message(tmp_path).startswith("is a series of one slice without a thickness;")


def test_several_frames_and_x_rays_are_no_slices(tmp_path: Path) -> None:
    def add_frames(index: int, header) -> None:
        header.NumberOfFrames, header.PixelData = "2", b"\0" * 80

    write_series(tmp_path / "frames", VOXELS[:1], change=add_frames)
    assert "has 2 frames, expected one image" in message(tmp_path / "frames", tmp_path / "frames" / "IM0001.dcm")
    path = write_x_ray(tmp_path / "x_rays" / "a.dcm", np.zeros((4, 6), np.uint8))
    assert not is_dicom_series(path.parent)
    assert message(path.parent, path).startswith("is no slice of a series (X-ray, or a picture")


def test_a_folder_without_slices_or_with_two_kinds_is_refused(tmp_path: Path) -> None:
    said = message(tmp_path)
    assert said.startswith("is a folder without slices named as slice_0001")
    assert "and without DICOM files" in said
    write_series(tmp_path, VOXELS[:1])
    (tmp_path / "slice_0001_4_5_1.50_1.50.png").write_bytes(b"")
    assert message(tmp_path) == "holds slices both as PNG and as DICOM; leave one of the two"
