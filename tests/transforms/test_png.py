import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import io
from slice_folder import save_png

from mtmed.errors import InputError
from mtmed.transforms import LoadVolumed, nifti, png
from mtmed.transforms.png import read_png, read_png_label
from mtmed.transforms.reading import read_label, read_volume

RNG = np.random.default_rng(0)
GREY8 = RNG.integers(0, 256, (5, 7), np.uint8)
GREY16 = RNG.integers(0, 65536, (5, 7), np.uint16)
NAME = "slice_0012_7_5_1.50_1.25.png"


def problem(path: Path, read=read_png) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(path) in caught.value.culprit
    assert "\n" not in str(caught.value)
    return caught.value.problem


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def handmade(path: Path, header: bytes, rows: bytes, *, whole=True) -> Path:
    """A PNG made of chunks with right checksums."""
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows))]
    path.write_bytes(b"".join(parts) + (chunk(b"IEND", b"") if whole else b""))
    return path


@pytest.fixture(params=["fast", "standard"], autouse=True)
def inflate(request, monkeypatch):
    """Every test runs with ISA-L, if it is there, and with zlib."""
    if request.param == "standard":
        monkeypatch.setattr(png, "inflate", zlib)
    elif nifti.inflate is zlib:
        pytest.skip("ISA-L is not installed")


@pytest.mark.parametrize("pixels", [GREY8, GREY16, GREY8 > 100], ids=["8 bits", "16 bits", "1 bit"])
def test_x_is_the_column_and_y_the_row_of_a_grey_image(tmp_path, pixels):
    path = save_png(tmp_path / "a.png", pixels)
    volume = read_png(path)
    assert volume.data.shape == (7, 5, 1)
    assert volume.data.dtype == (np.uint16 if pixels.dtype == np.uint16 else np.uint8)
    np.testing.assert_array_equal(volume.data[..., 0].T, pixels)
    np.testing.assert_array_equal(volume.data[..., 0].T, io.imread(path))
    np.testing.assert_array_equal(read_png_label(path).data, volume.data)


def test_every_row_filter_is_undone(tmp_path):
    smooth = np.add.outer(np.arange(64) * 500, np.arange(50) * 300).astype(np.uint16)
    noisy = smooth + RNG.integers(0, 50, smooth.shape, np.uint16)
    for index, pixels in enumerate((smooth, noisy, GREY16)):
        path = save_png(tmp_path / f"{index}.png", pixels)
        np.testing.assert_array_equal(read_png(path).data[..., 0].T, io.imread(path))


def test_an_interlaced_image_is_read(tmp_path):
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    pixels = RNG.integers(0, 65536, (9, 11), np.uint16)
    rows = b""
    for row, column, rows_apart, columns_apart in passes:
        for line in pixels[row::rows_apart, column::columns_apart]:
            rows += b"\0" + line.astype(">u2").tobytes()
    path = handmade(tmp_path / "a.png", struct.pack(">IIBBBBB", 11, 9, 16, 0, 0, 0, 1), rows)
    np.testing.assert_array_equal(read_png(path).data[..., 0].T, pixels)


def test_no_flipped_bit_changes_a_pixel_in_silence(tmp_path):
    path = save_png(tmp_path / "a.png", GREY16[:2, :3])
    raw = path.read_bytes()
    for position in range(len(raw)):
        spoilt = bytearray(raw)
        spoilt[position] ^= 1 << position % 8
        path.write_bytes(spoilt)
        problem(path)


@pytest.mark.parametrize("alpha", [False, True])
def test_three_equal_channels_are_a_grey_image(tmp_path, alpha):
    channels = [GREY8] * 3 + [np.full_like(GREY8, 255)] * alpha
    path = save_png(tmp_path / "a.png", np.stack(channels, -1))
    np.testing.assert_array_equal(read_png(path).data[..., 0].T, GREY8)


def test_an_opaque_grey_image_with_alpha_is_read(tmp_path):
    path = save_png(tmp_path / "a.png", np.stack([GREY8, np.full_like(GREY8, 255)], -1))
    np.testing.assert_array_equal(read_png(path).data[..., 0].T, GREY8)
    np.testing.assert_array_equal(read_png_label(path).data[..., 0].T, GREY8)


def test_colours_of_a_label_are_masks_that_may_overlap(tmp_path):
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = 128, 0, 0
    pixels[0, 1] = 127, 255, 127
    pixels[0, 2] = 0, 0, 200
    pixels[1, 0] = 255, 255, 0
    pixels[1, 1] = 255, 255, 255
    label = read_png_label(save_png(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(label.data[..., 0].T, [[1, 2, 4], [3, 7, 0]])
    assert label.data.dtype == np.uint8


def test_a_label_without_any_organ_is_read_as_the_others_of_its_kind(tmp_path):
    label = read_png_label(save_png(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8)))
    assert label.data.shape == (3, 2, 1)
    assert not label.data.any()


def test_the_spacing_comes_from_the_name(tmp_path):
    volume = read_png(save_png(tmp_path / NAME, GREY8))
    assert volume.spacing == (1.5, 1.25, 3.0)
    np.testing.assert_array_equal(volume.affine, np.diag([-1.5, -1.25, 3, 1]))
    assert volume.notes == ()
    assert not volume.oriented


def test_without_a_spacing_in_the_name_it_is_one_millimetre_and_a_note_says_so(tmp_path):
    volume = read_png(save_png(tmp_path / "case1_day0_slice_0070.png", GREY8))
    assert volume.spacing == (1.0, 1.0, 1.0)
    assert volume.notes == ("declares no spacing, 1 mm is taken",)


def test_width_and_height_swapped_in_the_name_are_accepted_with_a_note(tmp_path):
    volume = read_png(save_png(tmp_path / "slice_0012_5_7_1.25_1.50.png", GREY8))
    assert volume.data.shape == (7, 5, 1)
    assert volume.spacing == (1.5, 1.25, 3.0)
    text = "gives its height before its width in its name"
    assert volume.notes == (f"{text}, and so of the spacings: columns 1.5 mm, rows 1.25 mm apart",)
    assert read_png(save_png(tmp_path / "slice_0012_5_7_1.50_1.50.png", GREY8)).notes == (text,)


def test_a_name_of_another_size_is_refused(tmp_path):
    path = save_png(tmp_path / "slice_0012_7_6_1.50_1.50.png", GREY8)
    assert problem(path) == "is 7x5 pixels, its name says 7x6"


def test_a_name_without_spacing_is_refused(tmp_path):
    assert "spacing along axis 0 is 0 mm" in problem(save_png(tmp_path / "slice_1_7_5_0.00_0.00.png", GREY8))


def test_colours_and_transparency_are_no_grey_image(tmp_path):
    coloured = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    assert problem(save_png(tmp_path / "colour.png", coloured)).startswith("has colours")
    clear = np.dstack([GREY8, GREY8, GREY8, GREY8 // 2])
    for read in (read_png, read_png_label):
        assert problem(save_png(tmp_path / "clear.png", clear), read) == "is partly transparent"
        palette = tmp_path / "palette.png"
        Image.fromarray(GREY8).convert("P").save(palette)
        assert problem(palette, read) == "has a palette"
        deep = handmade(tmp_path / "deep.png", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), b"\0" * 7)
        assert problem(deep, read).startswith("has 16-bit colours")
        few = handmade(tmp_path / "few.png", struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0), b"\0\x12")
        assert problem(few, read) == "has 4 bits per pixel"


@pytest.mark.parametrize(("orientation", "refused"), [(1, False), (3, True), (6, True), (8, True)])
def test_an_image_that_viewers_turn_is_refused(tmp_path, orientation, refused):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    if refused:
        said = rf"a\.png: is turned by its EXIF orientation {orientation}; save it as it is shown"
        for read in (read_png, read_png_label):
            with pytest.raises(InputError, match=said):
                read(tmp_path / "a.png")
    else:
        assert np.array_equal(read_png(tmp_path / "a.png").data[..., 0].T, pixels)


def test_exif_data_that_cannot_be_read_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png", exif=b"Exif\0\0no tags at all")
    with pytest.raises(InputError, match=r"a\.png: has EXIF data that cannot be read; save it without them"):
        read_png(tmp_path / "a.png")


def test_damage_is_named(tmp_path):
    path = save_png(tmp_path / "a.png", GREY16)
    raw = path.read_bytes()
    for end in (20, 60, len(raw) - 1, len(raw) - 12):
        path.write_bytes(raw[:end])
        assert problem(path) == "ends early"
    spoilt = bytearray(raw)
    spoilt[60] ^= 4
    path.write_bytes(spoilt)
    assert problem(path) == "checksum mismatch"
    path.write_bytes(b"")
    assert problem(path) == "is empty"
    path.write_bytes(b"GIF89a" + raw)
    assert problem(path) == "is not a PNG file"
    path.write_bytes(raw[:8] + chunk(b"IHDR", b"1") + chunk(b"IEND", b""))
    assert problem(path) == "lacks its header or its pixels"
    assert problem(tmp_path / "gone.png") == "no such file"


@pytest.mark.parametrize("rows", [b"\0\1\2", b"\0\1\2\3\0\1", b"\x09\1\2\3\0\1\2\3"])
def test_pixels_that_do_not_fill_the_image_are_refused(tmp_path, rows):
    path = handmade(tmp_path / "a.png", struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0), rows)
    assert problem(path).startswith("cannot be decoded")


def test_a_header_that_claims_far_too_much_is_refused(tmp_path):
    path = handmade(tmp_path / "a.png", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 0, 0, 0, 0), bytes(99))
    assert problem(path) == "its header claims 2147483647x2147483647 pixels, the most is 134217728"


def test_images_and_labels_are_read_by_the_ending_of_their_name(tmp_path):
    image = read_volume(save_png(tmp_path / "images" / NAME, GREY16))
    np.testing.assert_array_equal(image.data[..., 0].T, GREY16)
    pixels = np.dstack([GREY8 > 100, GREY8 > 50, GREY8 > 200]).astype(np.uint8) * 255
    label = read_label(save_png(tmp_path / "label.PNG", pixels), image)
    np.testing.assert_array_equal(label.data[..., 0].T, (GREY8 > 100) + 2 * (GREY8 > 50) + 4 * (GREY8 > 200))
    np.testing.assert_array_equal(label.affine, image.affine)
    assert label.spacing == image.spacing
    assert label.notes == ()


def test_a_pair_of_png_files_is_loaded_on_one_grid(tmp_path):
    image, label = save_png(tmp_path / NAME, GREY16), save_png(tmp_path / "mask.png", GREY8 // 100)
    loaded = LoadVolumed(["image", "label"])({"image": image, "label": label})
    np.testing.assert_array_equal(loaded["image"][0, ..., 0].T, GREY16)
    np.testing.assert_array_equal(loaded["label"][0, ..., 0].T, GREY8 // 100)
    np.testing.assert_array_equal(loaded["label"].affine, np.diag([-1.5, -1.25, 3, 1]))


def test_a_label_of_another_size_than_its_image_is_refused(tmp_path):
    image, label = save_png(tmp_path / NAME, GREY16), save_png(tmp_path / "mask.png", GREY8[:4])
    with pytest.raises(InputError, match="has 7x4x1 voxels"):
        LoadVolumed(["image", "label"])({"image": image, "label": label})
