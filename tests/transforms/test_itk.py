"""Compressed voxels of NRRD and MetaImage files are verified up to their checksum."""

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from mtmed.errors import InputError
from mtmed.transforms.itk import read_itk

VOXELS = np.random.default_rng(0).normal(0, 50, (8, 9, 10)).astype(np.int16)
START = {".nrrd": b"\n\n", ".mha": b"LOCAL\n"}  # what the voxels follow


def saved(path: Path, *, compress: bool = True) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path), compress)
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compress", [True, False])
def test_voxels_are_those_that_were_written(tmp_path, suffix, compress):
    np.testing.assert_array_equal(read_itk(saved(tmp_path / f"a{suffix}", compress=compress)).data.T, VOXELS)


@pytest.mark.parametrize("suffix", START)
def test_no_flipped_bit_and_no_cut_is_silent(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    start = content.index(START[suffix]) + len(START[suffix])
    random = np.random.default_rng(1)
    for place, bit in zip(random.integers(start, len(content), 40), random.integers(8, size=40), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        for changed in (bytes(damaged), content[:place]):
            path.write_bytes(changed)
            with contextlib.suppress(InputError):
                # a few bits of a gzip header mean nothing for the voxels
                np.testing.assert_array_equal(read_itk(path).data.T, VOXELS)
                assert changed != content[:place]


@pytest.mark.parametrize(("suffix", "voxels"), [(".nhdr", "a.raw.gz"), (".mhd", "a.zraw")])
def test_voxels_in_a_file_of_their_own_are_verified(tmp_path, suffix, voxels):
    path = saved(tmp_path / f"a{suffix}")
    content = bytearray((tmp_path / voxels).read_bytes())
    content[-6 if suffix == ".nhdr" else -1] ^= 1
    (tmp_path / voxels).write_bytes(content)
    with pytest.raises(InputError, match="checksum mismatch") as caught:
        read_itk(path)
    assert caught.value.culprit == str(tmp_path / voxels)


def test_a_missing_file_of_voxels_is_named(tmp_path):
    path = saved(tmp_path / "a.nhdr")
    (tmp_path / "a.raw.gz").unlink()
    with pytest.raises(InputError, match=r"a\.nhdr: cannot be read .*a\.raw\.gz"):
        read_itk(path)


def test_a_header_that_claims_more_than_the_file_can_hold_is_refused_before_memory_is_asked_for(tmp_path):
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 32767 32767 32767\nencoding: gzip\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + gzip.compress(bytes(100)))
    with pytest.raises(InputError, match="header claims 32767x32767x32767 voxels, more than the file can hold"):
        read_itk(tmp_path / "a.nrrd")
