"""Damaged ``.nii.gz`` files through the reader and ``mtmed check``: refused by name, or the damage touched no datum."""

import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mtmed.cli import main
from mtmed.errors import InputError
from mtmed.transforms.reading import NiftiVolume, read_volume

KINDS = ("smooth", "noise", "label map", "extra fields")
SHAPE = (18, 16, 12)
AFFINE = np.array([[0.9, -0.2, 0, 4], [0.1, 1.1, 0, -7], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])


class Damaged(NamedTuple):
    """A file before and after."""

    whole: bytes
    broken: bytes


def _voxels(kind: str, seed: int) -> np.ndarray:
    noise = np.random.default_rng([7, seed]).normal(size=SHAPE)
    smooth = ndimage.gaussian_filter(noise, 2)
    if kind == "noise":
        return (noise * 300).astype(np.int16)
    if kind == "label map":  # in an image's place, so that long runs of one byte are compressed
        return (smooth > 0.05).astype(np.uint8) + 2 * (smooth < -0.05).astype(np.uint8)
    return (smooth * 4000).astype(np.float32)


def _zipped(kind: str, seed: int) -> bytes:
    image = nib.Nifti1Image(_voxels(kind, seed), AFFINE)
    image.header["descrip"] = f"scan {seed}"
    if kind != "extra fields":
        return gzip.compress(image.to_bytes(), mtime=seed)
    # all fields that a gzip header can have (RFC 1952): extra field, name, comment; and a NIfTI header extension
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"exported twice"))
    plain = image.to_bytes()
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(plain) + deflate.flush()
    head = b"\x1f\x8b\x08" + bytes([4 | 8 | 16]) + struct.pack("<L", seed) + b"\x02\x03"
    extra = b"ab\x04\x00mtmd"
    fields = struct.pack("<H", len(extra)) + extra + b"scan.nii\0" + b"a comment\0"
    return head + fields + body + struct.pack("<LL", zlib.crc32(plain), len(plain) & 0xFFFFFFFF)


def _damaged(number: int) -> Damaged:
    """The faults of number 0, 2, 4 ... are cuts, the others flipped bits; the kinds of data take turns."""
    whole = _zipped(KINDS[number // 2 % len(KINDS)], number)
    generator = np.random.default_rng([11, number])
    if number % 2 == 0:
        return Damaged(whole, whole[: int(generator.integers(len(whole)))])
    broken = bytearray(whole)
    broken[generator.integers(len(broken))] ^= 1 << int(generator.integers(8))
    return Damaged(whole, bytes(broken))


def _compare(path: Path, before: NiftiVolume) -> InputError | None:
    """The refusal of a file; or None if all that is read from it is what it was, to the bit."""
    try:
        after = read_volume(path)
    except InputError as error:
        return error
    assert after.data.dtype == before.data.dtype
    assert after.data.tobytes() == before.data.tobytes()
    assert after.affine.tobytes() == before.affine.tobytes()
    assert after.spacing == before.spacing
    assert {k: v.tobytes() for k, v in after.header.items()} == {k: v.tobytes() for k, v in before.header.items()}
    return None


def _scan(folder: Path, faults: int, capsys: pytest.CaptureFixture[str]) -> tuple[int, int]:
    """Read and check so many damaged files; gives how many were refused, and how many were harmless."""
    label = np.zeros(SHAPE, np.uint8)
    label[4:12, 4:12, 3:9] = 1
    rows, harmless = [], []
    for number in range(faults):
        files = _damaged(number)
        path = folder / f"case{number:03}.nii.gz"
        path.write_bytes(files.whole)
        before = read_volume(path)
        path.write_bytes(files.broken)
        error = _compare(path, before)
        if error is None:
            assert number % 2 == 1, f"the cut of {path.name} was read in silence"
            harmless.append(path.name)
        else:
            assert error.culprit == str(path)
            assert "\n" not in str(error)
            assert error.remedy
        nib.save(nib.Nifti1Image(label, AFFINE), folder / f"label{number:03}.nii.gz")
        rows.append({"image": path.name, "label": f"label{number:03}.nii.gz", "patient": f"p{number}"})
    manifest = {"name": "Damaged", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ"}}
    (folder / "dataset.json").write_text(json.dumps({**manifest, "training": rows}))
    report = folder / "report.json"
    assert main(["check", str(folder), "--json", str(report)]) == 1
    printed = capsys.readouterr()
    errors = json.loads(report.read_text())["errors"]
    for row in rows:
        named = [line for line in errors if row["image"] in line]
        assert bool(named) == (row["image"] not in harmless), (row["image"], named)
        assert all(line in printed.err for line in named)
    return faults - len(harmless), len(harmless)


def test_no_damage_of_eighty_files_is_read_in_silence(tmp_path, capsys):
    refused, harmless = _scan(tmp_path, 80, capsys)
    assert refused >= 70
    assert harmless <= 8


@pytest.mark.slow
def test_no_damage_of_four_hundred_files_is_read_in_silence(tmp_path, capsys):
    refused, harmless = _scan(tmp_path, 400, capsys)
    print(f"400 damaged files: {refused} refused, {harmless} with damage that touches no datum")
    assert refused >= 370
    assert refused + harmless == 400
