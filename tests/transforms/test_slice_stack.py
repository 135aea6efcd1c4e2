from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose, Orientationd
from slice_folder import save_png, write_stack

from mtmed.errors import InputError
from mtmed.transforms import LoadVolumed
from mtmed.transforms.ras import axis_codes
from mtmed.transforms.reading import read_volume
from mtmed.transforms.slice_name import SliceName, parse_slice_name
from mtmed.transforms.slice_stack import is_slice_stack, read_slice_stack, scan_name, slice_files, slice_numbers

SLICES = np.random.default_rng(0).integers(0, 65536, (4, 5, 7), np.uint16)  # slice, row, column


@pytest.fixture
def scan(tmp_path):
    return write_stack(tmp_path / "case7" / "case7_day3" / "scans", SLICES)


def problem(folder: Path, culprit: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(folder)
    assert caught.value.culprit == str(culprit or folder)
    assert "\n" not in str(caught.value)
    return caught.value.problem


def test_the_name_of_a_slice_gives_number_width_height_and_spacing():
    expected = SliceName(number=12, width=266, height=310, spacing_x=1.5, spacing_y=1.63)
    assert parse_slice_name("slice_0012_266_310_1.50_1.63.png") == expected
    assert parse_slice_name("slice_0012_266_310_1.50_1.63.PNG") == expected
    for other in ("slice_0012.png", "xslice_0012_266_310_1.50_1.63.png", "slice_0012_266_310_1.50_1.63.npy"):
        assert parse_slice_name(other) is None


def test_columns_rows_and_slices_are_the_axes_of_the_volume(scan):
    volume = read_volume(scan)
    assert volume.data.shape == (7, 5, 4)
    assert volume.data.dtype == np.uint16
    np.testing.assert_array_equal(volume.data, SLICES.transpose(2, 1, 0))
    assert volume.data.flags.f_contiguous
    assert volume.path == str(scan)
    assert volume.notes == ()


def test_columns_grow_to_the_left_rows_to_the_back_and_slices_to_the_head(tmp_path):
    volume = read_volume(write_stack(tmp_path, SLICES, spacing="1.50_1.63"))
    np.testing.assert_array_equal(volume.affine, np.diag([-1.5, -1.63, 3.0, 1]))
    assert volume.spacing == (1.5, 1.63, 3.0)
    assert axis_codes(volume.affine) == "LPS"
    assert not volume.oriented


def test_slices_first_rows_and_columns_are_upright_after_orientation(scan):
    chain = Compose([LoadVolumed("image"), Orientationd("image", axcodes="SPL", labels=None)])
    np.testing.assert_array_equal(chain({"image": scan})["image"][0], SLICES)


def test_slices_are_sorted_by_number_and_other_files_pass(scan):
    save_png(scan / "slice_10_7_5_1.50_1.50.png", SLICES[0])
    (scan / "notes.txt").write_text("")
    (scan / "._slice_0001_7_5_1.50_1.50.png").write_bytes(b"")
    assert slice_numbers(scan) == [1, 2, 3, 4, 10]
    assert [path.name[:10] for path in slice_files(scan)] == [*(f"slice_000{n}" for n in (1, 2, 3, 4)), "slice_10_7"]


def test_missing_numbers_are_noted(tmp_path):
    folder = write_stack(tmp_path, SLICES, numbers=[3, 5, 6, 14])
    (note,) = read_slice_stack(folder).notes
    assert note.startswith("lacks 8 of its slices (number 4, 7, 8, 9, 10 and more)")
    assert read_slice_stack(folder).data.shape == (7, 5, 4)


def test_one_slice_is_a_scan_too(tmp_path):
    volume = read_slice_stack(write_stack(tmp_path, SLICES[:1], numbers=[80]))
    np.testing.assert_array_equal(volume.data[..., 0], SLICES[0].T)
    assert volume.notes == ()


def test_width_and_height_swapped_in_the_names_are_accepted_with_a_note(tmp_path):
    volume = read_slice_stack(write_stack(tmp_path, SLICES, swapped=True, spacing="1.63_1.50"))
    np.testing.assert_array_equal(volume.data, SLICES.transpose(2, 1, 0))
    assert volume.spacing == (1.5, 1.63, 3.0)
    text = "gives height before width in the names of 4 of 4 slices"
    assert volume.notes == (f"{text}, and so of the spacings: columns 1.5 mm, rows 1.63 mm apart",)
    square = read_slice_stack(write_stack(tmp_path / "square", SLICES, swapped=True, spacing="1.50_1.50"))
    assert square.notes == (text,)


def test_only_folders_that_hold_slices_are_scans(scan, tmp_path):
    assert is_slice_stack(scan)
    assert not is_slice_stack(scan.parent)
    assert not is_slice_stack(scan / "slice_0001_7_5_1.50_1.50.png")
    assert not is_slice_stack(tmp_path / "gone")


def test_a_scan_is_named_after_its_folder_or_the_one_above_scans(scan, monkeypatch):
    assert scan_name(scan) == "case7_day3"
    assert scan_name(scan.parent) == "case7_day3"
    monkeypatch.chdir(scan)
    assert scan_name(".") == "case7_day3"


def test_a_name_of_another_size_is_refused(scan):
    path = save_png(scan / "slice_0005_9_5_1.50_1.50.png", SLICES[0])
    assert problem(scan, path) == "is 7x5 pixels, its name says 9x5"


def test_a_damaged_slice_is_refused(scan):
    path = scan / "slice_0003_7_5_1.50_1.50.png"
    path.write_bytes(path.read_bytes()[:-20])
    assert problem(scan, path) == "ends early"


def test_slices_that_differ_in_size_depth_or_spacing_are_refused(scan):
    path = scan / "slice_0005_6_5_1.50_1.50.png"
    save_png(path, SLICES[0, :, :6])
    assert problem(scan, path) == "is 6x5 pixels, the first slice of its scan is 7x5"
    path.unlink()
    path = save_png(scan / "slice_0005_7_5_1.50_1.50.png", SLICES[0].astype(np.uint8))
    assert problem(scan, path) == "has 8 bits, the first slice of its scan 16"
    path.unlink()
    path = save_png(scan / "slice_0005_7_5_1.50_1.63.png", SLICES[0])
    assert problem(scan, path) == "has pixels of 1.5 x 1.63 mm, the first slice of its scan 1.5 x 1.5 mm"


def test_two_slices_of_one_number_are_refused(scan):
    save_png(scan / "slice_2_7_5_1.50_1.50.png", SLICES[0])
    assert problem(scan) == "has 2 slices of the number 2"


def test_an_image_of_another_name_among_the_slices_is_refused(scan):
    assert "is not named as a slice" in problem(scan, save_png(scan / "overview.png", SLICES[0]))


def test_a_folder_without_slices_and_a_missing_one_are_named(tmp_path):
    assert problem(tmp_path).startswith("is a folder without slices")
    assert problem(tmp_path / "gone") == "no such file"
    with pytest.raises(InputError, match="no such folder"):
        slice_files(tmp_path / "gone")
