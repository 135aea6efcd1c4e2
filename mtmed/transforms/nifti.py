"""One NIfTI file, verified from its first byte to its last.

The usual readers stop inflating at the last voxel and so never reach the checksum of a gzip stream; here the whole
stream is inflated (with ISA-L where installed), and header, stream and geometry must agree before anything is returned.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError

inflate: ModuleType = zlib
with suppress(ImportError):
    from isal import isal_zlib as inflate

__all__ = [
    "INFLATE_LIMIT",
    "NiftiVolume",
    "check_file",
    "check_geometry",
    "inflate_to_checksum",
    "read_nifti",
    "shape_text",
]

INFLATE_LIMIT = 1032
"""Deflate cannot expand more than this."""

_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI codes of metre, millimetre, micron
_COPY_AGAIN = "copy or download the file again"


@dataclass(frozen=True)
class NiftiVolume:
    """A volume as it lies in its file, with its place in the patient.

    Attributes:
        data: voxels (H, W, D) or (H, W, D, C) in the file's order; the file's dtype if it declares no scaling
            (slope 1, intercept 0), else float32.
        affine: voxel index to RAS+ millimetres, 4 x 4 float64.
        spacing: distance of neighbouring voxels along each array axis, mm.
        header: the header's fields; empty for other formats.
        path: where it was read.
        notes: what is odd about the file but could be read.
        oriented: whether the file declares how its axes lie in the patient; otherwise the affine is a guess.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    spacing: tuple[float, ...]
    header: Mapping[str, Any]
    path: str
    notes: tuple[str, ...] = field(default=())
    oriented: bool = True


def read_nifti(path: str | Path) -> NiftiVolume:
    """Read a NIfTI-1 or NIfTI-2 file, verified to its last byte.

    The affine is the sform if its code is set, else the qform, else the header's default, as in nibabel; lengths
    in metres or microns are turned into mm.

    Raises:
        InputError: the file is missing, a folder, empty, no NIfTI, truncated or fails its checksum; the header
            disagrees with the amount of data; voxels are complex or RGB; spacing is 0 or the affine not finite.
    """
    path = Path(path)
    start, size = check_file(path)
    notes: list[str] = []
    zipped = start[:2] == b"\x1f\x8b"
    if zipped != path.name.lower().endswith(".gz"):
        if not zipped and not _is_nifti(start):
            raise InputError(path, "is neither gzip nor NIfTI data", _COPY_AGAIN)
        notes.append(f"is {'gzip' if zipped else 'plain, not gzip,'} data against its name")
    raw = path.read_bytes()
    head = _inflate_start(path, raw) if zipped else raw[:544]
    header = _parse_header(path, head)
    shape = _shape(path, header)
    dtype = _dtype(path, header)
    offset = _offset(path, header)
    expected = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected > (size * INFLATE_LIMIT if zipped else size):
        raise InputError(path, f"header claims {shape_text(shape)} voxels, more than the file can hold", _COPY_AGAIN)
    body = inflate_to_checksum(path, raw, expected) if zipped else raw
    surplus = len(body) - expected
    if surplus < 0:
        claim = f"header claims {shape_text(shape)} voxels = {expected} bytes, the file has {len(body)}"
        raise InputError(path, claim, _COPY_AGAIN)
    if surplus >= dtype.itemsize * shape[0] * (shape[1] if len(shape) > 1 else 1):
        claim = f"header claims {shape_text(shape)} voxels = {expected} bytes, the file has {surplus} bytes more"
        raise InputError(path, claim, "correct the header or export the file again")
    if surplus:
        notes.append(f"has {surplus} bytes after the last voxel")
    data = np.frombuffer(body, dtype, count=int(np.prod(shape)), offset=offset).reshape(shape, order="F")
    if not dtype.isnative:
        data = data.astype(dtype.newbyteorder("="))
    affine, oriented = _affine(path, header, notes)
    spacing = tuple(float(length) for length in np.linalg.norm(affine[:3, : min(len(shape), 3)], axis=0))
    check_geometry(path, affine, spacing)
    return NiftiVolume(_scaled(path, data, header), affine, spacing, dict(header), str(path), tuple(notes), oriented)


def check_file(path: Path) -> tuple[bytes, int]:
    """Require that a path is a file that may hold an image.

    Returns:
        The first bytes of the file and its size.

    Raises:
        InputError: missing, a folder, empty, unreadable, or an HTML page, git-lfs pointer or macOS resource file.
    """
    if path.name.startswith("._"):
        raise InputError(path, "is a macOS resource file, not an image", "leave files named ._* out of the data list")
    if not os.path.exists(path):  # and not path.exists(), which raises for a name that no file system takes
        raise InputError(path, "no such file", "correct the path in the data list")
    if os.path.isdir(path):
        raise InputError(path, "is a folder, expected a file", "name the file in the data list")
    try:
        with path.open("rb") as stream:
            start = stream.read(1024)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "check its permissions") from error
    if not start:
        raise InputError(path, "is empty", _COPY_AGAIN)
    if start.startswith(b"version https://git-lfs"):
        raise InputError(path, "is a git-lfs pointer, not the image itself", "run `git lfs pull` in its repository")
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(path, "is an HTML page, not an image", "download it again, perhaps after logging in")
    return start, path.stat().st_size


def check_geometry(path: Path, affine: NDArray[np.float64], spacing: Sequence[float]) -> None:
    """Require a finite, invertible affine and spacing above 0 (mm); raise `InputError` otherwise."""
    if not np.isfinite(affine).all():
        raise InputError(path, "affine holds NaN or infinity", "export the file again with its geometry")
    for axis, length in enumerate(spacing):
        if not length > 1e-6:
            raise InputError(path, f"spacing along axis {axis} is {length:g} mm", "correct the header's spacing")
    if len(spacing) == 3 and abs(np.linalg.det(affine[:3, :3])) < 1e-6 * np.prod(spacing):
        raise InputError(path, "affine is singular: two axes point the same way", "correct the header's sform")


def shape_text(shape: Sequence[int]) -> str:
    """Give a shape as ``512x512x80``."""
    return "x".join(str(n) for n in shape)


def _is_nifti(start: bytes) -> bool:
    return any(int.from_bytes(start[:4], order) in (348, 540) for order in ("little", "big"))


def _inflate_start(path: Path, raw: bytes) -> bytes:
    try:
        return bytes(zlib.decompressobj(31).decompress(raw[:65536], 544))
    except zlib.error as error:
        raise InputError(path, f"gzip data are damaged ({error})", _COPY_AGAIN) from error


def inflate_to_checksum(path: Path, raw: bytes, expected: int) -> bytes:
    """Inflate all members of a gzip stream, or one of zlib, to their checksums; stop early only if far too much.

    Args:
        path: file to name in an error.
        raw: the stream, after which zeros may follow.
        expected: bytes that it should give.

    Raises:
        InputError: the stream is damaged, ends early or has something else behind it.
    """
    zipped = raw[:2] == b"\x1f\x8b"
    kind, container = ("gzip", 31) if zipped else ("compressed", 15)
    parts: list[bytes] = []
    rest, room = raw, 2 * expected + 65536
    try:
        while rest and room > 0:
            stream = inflate.decompressobj(container)
            parts.append(stream.decompress(rest, room))
            room -= len(parts[-1])
            if not stream.eof:
                if room > 0:
                    raise InputError(path, f"{kind} data end early", _COPY_AGAIN)
                break
            rest = stream.unused_data
            if rest and not (zipped and rest[:2] == b"\x1f\x8b"):
                if rest.strip(b"\0"):
                    raise InputError(path, f"has foreign data after the {kind} stream", _COPY_AGAIN)
                break
    except (zlib.error, inflate.error) as error:
        mismatch = any(word in str(error).lower() for word in ("data check", "length check", "checksum"))
        problem = f"{kind} checksum mismatch" if mismatch else f"{kind} data are damaged ({error})"
        raise InputError(path, problem, _COPY_AGAIN) from error
    except MemoryError as error:
        raise InputError(path, f"needs {expected} bytes of memory", "use a machine with more memory") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse_header(path: Path, head: bytes) -> Any:
    if len(head) < 348:
        raise InputError(path, f"data end early, after {len(head)} bytes, inside the header", _COPY_AGAIN)
    if not _is_nifti(head):
        raise InputError(path, "is not a NIfTI file", "convert it to NIfTI or correct its name")
    second = 540 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    try:
        header = (nib.Nifti2Header if second else nib.Nifti1Header)(head[: 540 if second else 348], check=False)
        if bytes(header["magic"])[:2] == b"ni":
            raise InputError(path, "is the header of a .hdr/.img pair", "convert the pair to one .nii.gz file")
        return header.as_byteswapped("<")
    except InputError:
        raise
    except Exception as error:
        raise InputError(path, f"NIfTI header is damaged ({error})", _COPY_AGAIN) from error


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    rank = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : 1 + max(rank, 0)])
    if not 1 <= rank <= 7 or min(shape) < 1:
        raise InputError(path, f"header claims the shape {shape_text(shape) or 'of rank ' + str(rank)}", _COPY_AGAIN)
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4:
        raise InputError(path, f"has {len(shape)} dimensions, expected 2 to 4", "split it into 3D volumes")
    return shape


def _offset(path: Path, header: Any) -> int:
    """Where the voxels begin; NIfTI-1 gives it as a floating-point number."""
    offset, least = header["vox_offset"], int(header["sizeof_hdr"]) + 4
    if offset == 0:
        return least
    if not np.isfinite(offset) or offset < least - 4:
        raise InputError(path, f"header claims that voxels begin at byte {offset:g}", _COPY_AGAIN)
    return int(offset)


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except Exception as error:
        raise InputError(path, f"unknown voxel type {int(header['datatype'])}", "convert it to int16") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(path, f"voxels are {dtype}, expected one real number each", "convert it to int16 or float32")
    return dtype


def _affine(path: Path, header: Any, notes: list[str]) -> tuple[NDArray[np.float64], bool]:
    """Affine in mm, and whether the header declares one."""
    try:
        sform, scode = header.get_sform(coded=True)
        qform, qcode = header.get_qform(coded=True)
        affine = np.array(header.get_best_affine(), np.float64)
    except Exception as error:
        raise InputError(path, f"orientation in the header is damaged ({error})", "export the file again") from error
    oriented = bool(scode or qcode)
    if not oriented:
        notes.append("declares neither sform nor qform, so its orientation is a guess")
    elif scode and qcode and not np.allclose(sform, qform, atol=1e-2):
        notes.append("has a qform that differs from its sform; the sform is used")
    affine[:3] *= _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine, oriented


def _scaled(path: Path, data: NDArray[Any], header: Any) -> NDArray[Any]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isinf(slope) or np.isinf(intercept):
        raise InputError(path, f"intensity scaling is {slope:g} x + {intercept:g}", "correct scl_slope and scl_inter")
    if slope == 0 or np.isnan(slope):
        return data
    intercept = 0.0 if np.isnan(intercept) else intercept
    if (slope, intercept) == (1.0, 0.0):
        return data
    scaled = np.empty(data.shape, np.float32, order="F")
    for index in range(data.shape[-1]):  # slice by slice: float64 for one slice only
        scaled[..., index] = data[..., index].astype(np.float64) * slope + intercept
    return scaled
