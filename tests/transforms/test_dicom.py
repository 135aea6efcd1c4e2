"""X-rays in DICOM files: pixels, geometry, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from x_ray_file import change_field, write_x_ray

from mtmed.errors import InputError
from mtmed.transforms import LoadVolumed
from mtmed.transforms.dicom import read_dicom_image
from mtmed.transforms.reading import read_label, read_volume

PIXELS = np.random.default_rng(3).integers(0, 200, (4, 6)).astype(np.uint8)


def problem(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_dicom_image(path)
    assert "\n" not in str(caught.value)
    assert caught.value.culprit == str(path)
    return caught.value.problem


def image(path: Path) -> np.ndarray:
    volume = read_dicom_image(path)
    assert volume.data.shape[2:] == (1,)
    return volume.data[..., 0].T


@pytest.mark.parametrize("modality", ["CR", "DX"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_columns_come_first_and_pixels_keep_their_values(tmp_path: Path, modality: str, dtype: type) -> None:
    pixels = PIXELS.astype(dtype) * (250 if dtype == np.uint16 else 1)
    volume = read_dicom_image(write_x_ray(tmp_path / "a.dcm", pixels, modality=modality))
    assert volume.data.shape == (6, 4, 1)
    assert volume.data.dtype == dtype
    np.testing.assert_array_equal(volume.data[..., 0].T, pixels)


def test_geometry_is_that_of_a_png_with_the_spacing_of_columns_and_rows(tmp_path: Path) -> None:
    volume = read_dicom_image(write_x_ray(tmp_path / "a.dcm", PIXELS, spacing=(0.2, 0.3)))
    assert volume.spacing == (0.2, 0.3, 1.0)
    np.testing.assert_array_equal(volume.affine, np.diag([-0.2, -0.3, 1.0, 1.0]))
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    png = read_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(np.sign(volume.affine), np.sign(png.affine))
    assert (volume.oriented, volume.notes, volume.header) == (False, (), {})


def test_the_pixel_spacing_goes_before_that_at_the_detector(tmp_path: Path) -> None:
    volume = read_dicom_image(write_x_ray(tmp_path / "a.dcm", PIXELS, spacing=(0.2, 0.3), x0028_0030="0.5\\0.4"))
    assert volume.spacing == (0.4, 0.5, 1.0)


def test_an_x_ray_without_spacing_has_a_note(tmp_path: Path) -> None:
    path = write_x_ray(tmp_path / "a.dcm", PIXELS)
    field, other = b"\x18\x00\x64\x11", b"\x18\x00\x63\x11"
    path.write_bytes(path.read_bytes().replace(field, other))
    volume = read_dicom_image(path)
    assert volume.spacing == (1.0, 1.0, 1.0)
    assert volume.notes == ("declares no spacing, 1 mm is taken",)


@pytest.mark.parametrize(("text", "found"), [(b".3\\.b ", r"'.3\\.b'"), (b".3    ", "'.3'"), (b".3\\0  ", "is 0 mm")])
def test_a_spacing_that_is_none_is_refused(tmp_path: Path, text: bytes, found: str) -> None:
    path = write_x_ray(tmp_path / "a.dcm", PIXELS)
    change_field(path, "0018|1164", b".3\\.2 ", text)
    assert found in problem(path)


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16), (np.uint16, 12)])
def test_air_is_dark_in_an_x_ray_whose_small_values_are_white(tmp_path: Path, dtype: type, bits: int) -> None:
    path = write_x_ray(tmp_path / "a.dcm", PIXELS.astype(dtype))
    if bits == 12:
        change_field(path, "0028|0101", b"\x10\x00", b"\x0c\x00")
        change_field(path, "0028|0102", b"\x0f\x00", b"\x0b\x00")
    change_field(path, "0028|0004", b"MONOCHROME2 ", b"MONOCHROME1 ")
    np.testing.assert_array_equal(image(path), 2**bits - 1 - PIXELS.astype(int))


@pytest.mark.parametrize(("slope", "intercept"), [(b"2 ", b"0 "), (b"2 ", b"7 "), (b"1 ", b"-3"), (b".5", b".1")])
@pytest.mark.parametrize("inverted", [False, True])
def test_rescaling_is_applied_after_inversion(tmp_path: Path, slope: bytes, intercept: bytes, inverted: bool) -> None:
    path = write_x_ray(tmp_path / "a.dcm", PIXELS)
    change_field(path, "0028|1053", b"1 ", slope)
    change_field(path, "0028|1052", b"0 ", intercept)
    if inverted:
        change_field(path, "0028|0004", b"MONOCHROME2 ", b"MONOCHROME1 ")
    stored = 255.0 - PIXELS if inverted else PIXELS.astype(np.float64)
    found = image(path)
    np.testing.assert_allclose(found, float(slope) * stored + float(intercept), rtol=1e-6)
    assert found.dtype.kind in "iu" or found.dtype == np.float32


@pytest.mark.parametrize("modality", ["CT", "MR", "US"])
def test_a_slice_of_a_series_is_refused(tmp_path: Path, modality: str) -> None:
    path = write_x_ray(tmp_path / "a.dcm", PIXELS.astype(np.int16), modality=modality)
    assert problem(path) == f"is a slice of a series ({modality}), expected an X-ray"


def test_a_secondary_capture_with_a_place_in_the_patient_is_refused(tmp_path: Path) -> None:
    path = write_x_ray(tmp_path / "a.dcm", np.stack([PIXELS] * 3, axis=-1), modality="OT")
    assert problem(path) == "is a slice of a series (OT), expected an X-ray"


def test_colours_are_refused(tmp_path: Path) -> None:
    assert problem(write_x_ray(tmp_path / "a.dcm", np.stack([PIXELS] * 3, axis=-1))) == (
        "has colours, expected a grey image"
    )


def test_several_frames_are_refused(tmp_path: Path) -> None:
    path = write_x_ray(tmp_path / "a.dcm", np.stack([PIXELS] * 3), volume=True)
    assert problem(path) == "has 3 frames, expected one image"


def test_what_is_no_dicom_or_ends_early_is_refused(tmp_path: Path) -> None:
    path = write_x_ray(tmp_path / "a.dcm", np.zeros((64, 64), np.uint8))
    whole = path.read_bytes()
    for content in (whole[:-100], whole[: len(whole) // 3], b"no picture" * 90):
        path.write_bytes(content)
        assert "cannot be read as DICOM" in problem(path)
    path.write_bytes(b"")
    assert problem(path) == "is empty"
    assert problem(tmp_path / "b.dcm") == "no such file"


def test_pixels_that_are_fewer_than_the_header_claims_are_refused(tmp_path: Path) -> None:
    path = write_x_ray(tmp_path / "a.dcm", PIXELS)
    change_field(path, "0028|0010", b"\x04\x00", b"\x06\x00")
    assert problem(path) == "has 24 bytes of pixels, its header claims 36"


def test_x_rays_are_loaded_with_a_label_map_and_nothing_of_the_patient(tmp_path: Path) -> None:
    path = write_x_ray(tmp_path / "a.DCM", PIXELS, x0010_0010="Doe^Jane", x0010_0020="4711")
    Image.fromarray((PIXELS > 100).astype(np.uint8)).save(tmp_path / "mask.png")
    loaded = LoadVolumed(["image", "label"])({"image": str(path), "label": str(tmp_path / "mask.png")})
    assert loaded["image"].shape == loaded["label"].shape == (1, 6, 4, 1)
    np.testing.assert_array_equal(loaded["label"].affine, loaded["image"].affine)
    np.testing.assert_array_equal(loaded["image"][0, ..., 0].T, PIXELS)
    assert not any(word in str(loaded["image"].meta) for word in ("Doe", "4711"))
    assert read_label(tmp_path / "mask.png", read_volume(path)).notes == ()
