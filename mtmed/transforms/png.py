"""PNG images and label maps, verified to their last byte.

Pillow decodes; what it passes over is checked here: the checksums of the pixel data, and 16-bit colours, which it would
cut to 8 bits.
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mtmed.errors import InputError
from mtmed.transforms.inflation import require_pixel_count
from mtmed.transforms.nifti import NiftiVolume, check_file, check_geometry, inflate
from mtmed.transforms.slice_name import parse_slice_name, spacing_by_name, swapped_spacing

__all__ = ["SLICE_DISTANCE", "planar_affine", "read_grey", "read_png", "read_png_label"]

SLICE_DISTANCE = 3.0
"""Distance of neighbouring slices of the UW-Madison scans, mm; their names do not give it."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COPY_AGAIN = "copy or download the file again"
_DAMAGED = (OSError, SyntaxError, ValueError, struct.error, zlib.error)  # what Pillow raises
_GREY, _COLOUR, _PALETTE, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 3, 4, 6  # colour types of the PNG header
_CHANNELS = {_GREY: 1, _COLOUR: 3, _GREY_ALPHA: 2, _COLOUR_ALPHA: 4}
_MODES = {  # depth and colour type: how Pillow calls the image and its rows
    (1, _GREY): ("1", "1"),
    (8, _GREY): ("L", "L"),
    (16, _GREY): ("I;16", "I;16B"),
    (8, _COLOUR): ("RGB", "RGB"),
    (8, _GREY_ALPHA): ("LA", "LA"),
    (8, _COLOUR_ALPHA): ("RGBA", "RGBA"),
}


def read_png(path: str | Path) -> NiftiVolume:
    """Read one grey image as a volume of one slice, (W, H, 1).

    Axes: x is the column and grows to the patient's left, y is the row and grows to the back, as axial slices are
    shown. A PNG declares neither spacing nor orientation. The spacing comes from the name if it is one of
    `mtmed.transforms.slice_name.SLICE_NAME`, else it is 1 mm, and a note says so.

    Raises:
        InputError: the file is missing, damaged or no PNG; it has colours, a palette, transparency, an EXIF orientation
            other than upright, or a depth other than 1, 8 or 16 bits; its name disagrees about the size.
    """
    return _volume(Path(path), read_grey(Path(path)))


def read_png_label(path: str | Path) -> NiftiVolume:
    """Read one label map as a volume of one slice, (W, H, 1).

    Grey values are the labels. Colours are masks that may overlap: ``R + 2 G + 4 B`` with each channel 1 where it is
    above 127, as `mtmed.organ_masks.pack_masks` packs them. Which holds is told by the kind of PNG and not by its
    pixels, so that a file without any organ is read like the others of its data set.

    Raises:
        InputError: as `read_png`; or the PNG has a palette, whose numbers or colours may be meant.
    """
    pixels, colour_type = _decode(Path(path))
    if colour_type in (_COLOUR, _COLOUR_ALPHA):
        pixels = (pixels[..., :3] > 127) @ np.array([1, 2, 4], np.uint8)
    elif pixels.ndim == 3:
        pixels = pixels[..., 0]
    return _volume(Path(path), pixels)


def read_grey(path: Path) -> NDArray[Any]:
    """Read the pixels of a grey image, (rows, columns), uint8 or uint16; see `read_png`."""
    pixels, colour_type = _decode(path)
    if colour_type in (_COLOUR, _COLOUR_ALPHA):
        red = pixels[..., 0]
        if (red != pixels[..., 1]).any() or (red != pixels[..., 2]).any():
            raise InputError(path, "has colours, expected a grey image", "convert it to grey, or leave it out")
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def planar_affine(spacing_x: float, spacing_y: float, spacing_z: float) -> NDArray[np.float64]:
    """Index (column, row, slice) to RAS+ mm: columns grow to the left, rows to the back, slices to the head."""
    return np.diag([-spacing_x, -spacing_y, spacing_z, 1.0])


def _volume(path: Path, pixels: NDArray[Any]) -> NiftiVolume:
    height, width = pixels.shape
    name = parse_slice_name(path.name)
    notes: tuple[str, ...] = ()
    if name is None:
        spacing = (1.0, 1.0, 1.0)
        notes = ("declares no spacing, 1 mm is taken",)
    else:
        x, y, swapped = spacing_by_name(path, name, width, height)
        spacing = (x, y, SLICE_DISTANCE)
        if swapped:
            notes = (f"gives its height before its width in its name{swapped_spacing(x, y)}",)
    affine = planar_affine(*spacing)
    check_geometry(path, affine, spacing)
    return NiftiVolume(pixels.T[..., None], affine, spacing, {}, str(path), notes, oriented=False)


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int  # bits per channel
    colour_type: int
    interlaced: bool
    orientation: int  # of EXIF: 1 is upright, 0 is not said

    @property
    def length(self) -> int:
        """Bytes of the pixels before compression: each row begins with the number of its filter."""
        return self.height * (1 + (self.width * self.depth * _CHANNELS[self.colour_type] + 7) // 8)


def _decode(path: Path) -> tuple[NDArray[Any], int]:
    """Pixels (rows, columns) or (rows, columns, channels), and the colour type of the header."""
    check_file(path)
    raw = path.read_bytes()
    header, data = _chunks(path, raw)
    depth, colour_type = header.depth, header.colour_type
    if header.orientation not in (0, 1):
        problem = f"is turned by its EXIF orientation {header.orientation}"
        raise InputError(path, problem, "save it as it is shown, without the orientation")
    if colour_type == _PALETTE:
        raise InputError(path, "has a palette", "save it as grey (numbers of labels) or in colours (masks)")
    if depth not in (1, 8, 16) or colour_type not in _CHANNELS:
        raise InputError(path, f"has {depth} bits per pixel", "save it with 8 or 16 bits")
    require_pixel_count(path, header.width, header.height)
    if depth == 16 and colour_type != _GREY:
        raise InputError(path, "has 16-bit colours or transparency", "save it as 16-bit grey")
    try:
        pixels = _inflated(header, data) if inflate is not zlib and not header.interlaced else _opened(raw)
    except (*_DAMAGED, inflate.error, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(path, f"cannot be decoded ({reason})", _COPY_AGAIN) from error
    if colour_type in (_GREY_ALPHA, _COLOUR_ALPHA) and (pixels[..., -1] != 255).any():
        raise InputError(path, "is partly transparent", "save it without transparency")
    return pixels.astype(np.uint16 if depth == 16 else np.uint8, copy=False), colour_type


def _opened(raw: bytes) -> NDArray[Any]:
    with Image.open(BytesIO(raw), formats=("PNG",)) as image:
        return np.asarray(image)


def _inflated(header: _Header, data: bytes) -> NDArray[Any]:
    """Inflate with ISA-L, in half of zlib's time, and leave the rest to Pillow."""
    rows = inflate.decompressobj().decompress(data, header.length + 1)
    if len(rows) != header.length:
        raise ValueError(f"its pixels do not fill {header.width}x{header.height}")
    mode, raw_mode = _MODES[header.depth, header.colour_type]
    stored = zlib.compress(rows, 0)  # Pillow takes rows as a zlib stream only
    return np.asarray(Image.frombytes(mode, (header.width, header.height), stored, "zip", raw_mode, 0))


def _chunks(path: Path, raw: bytes) -> tuple[_Header, bytes]:
    """Check every chunk against its checksum; gives the header and the compressed pixels."""
    if not raw.startswith(_SIGNATURE):
        raise InputError(path, "is not a PNG file", "convert it to PNG or correct its name")
    view, start, kind = memoryview(raw), len(_SIGNATURE), b""
    chunks: dict[bytes, list[memoryview]] = {}
    while kind != b"IEND":
        if start + 12 > len(raw):
            raise InputError(path, "ends early", _COPY_AGAIN)
        length, kind = struct.unpack_from(">I4s", raw, start)
        end = start + 12 + length
        if end > len(raw):
            raise InputError(path, "ends early", _COPY_AGAIN)
        if inflate.crc32(view[start + 4 : end - 4]) != struct.unpack_from(">I", raw, end - 4)[0]:
            raise InputError(path, "checksum mismatch", _COPY_AGAIN)
        chunks.setdefault(kind, []).append(view[start + 8 : end - 4])
        start = end
    if len(chunks.get(b"IHDR", [b""])[0]) != 13 or b"IDAT" not in chunks:
        raise InputError(path, "lacks its header or its pixels", _COPY_AGAIN)
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"][0])
    orientation = _orientation(path, chunks.get(b"eXIf", []))
    return _Header(width, height, depth, colour_type, bool(interlaced), orientation), b"".join(chunks[b"IDAT"])


def _orientation(path: Path, exif: list[memoryview]) -> int:
    """How viewers turn the image, and with it whoever draws a mask; Pillow gives the pixels as they are stored."""
    if not exif:
        return 0
    found = Image.Exif()
    try:
        found.load(b"Exif\0\0" + bytes(exif[0]))
        return int(found.get(ExifTags.Base.Orientation, 0))
    except (*_DAMAGED, TypeError) as error:
        raise InputError(path, "has EXIF data that cannot be read", "save it without them") from error
