"""Files that are missing, damaged or something else than their name says, given to the real command line."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from abdomen_rows import (
    CHECK,
    EVALUATE,
    FINETUNE,
    INFERENCE,
    PRETRAIN,
    as_plain,
    edit_header,
    in_format,
    inference,
    list_as,
    patch_bytes,
    rename,
    spoil,
    trained,
)
from catalogue import RUN, Row, assert_refused, assert_works, parametrized
from mixcl_inputs import damage_checksum, image, label, truncate

AGAIN = "copy or download the file again"
DIMENSIONS = 40  # place of NIfTI's dim in the header: its number of axes, then their lengths


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


def replaced(content: bytes) -> Row:
    return spoil(lambda f: (f / image(1)).write_bytes(content))


def as_folder(folder: Path) -> None:
    (folder / image(1)).unlink()
    (folder / image(1)).mkdir()


def as_resource_file(folder: Path) -> None:
    rename(folder, "images/._1.nii.gz")


def with_pickle(folder: Path) -> None:
    (folder / image(1)).unlink()
    np.save(folder / "cohort" / "images" / "1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    list_as(folder, "image", "images/1.npy")


def in_two_members(content: bytes) -> bytes:
    whole = gzip.decompress(content)
    return gzip.compress(whole[:5000]) + gzip.compress(whole[5000:])


def as_big_endian(folder: Path) -> None:
    volume = nib.load(folder / image(1))
    header = nib.Nifti1Header(endianness=">")
    nib.Nifti1Image(np.asarray(volume.dataobj).astype(">i2"), volume.affine, header).to_filename(folder / image(1))


def as_second_version(folder: Path) -> None:
    volume = nib.load(folder / image(1))
    nib.Nifti2Image(np.asarray(volume.dataobj), volume.affine).to_filename(folder / image(1))


def as_link(folder: Path) -> None:
    (folder / image(1)).rename(folder / "elsewhere.nii.gz")
    (folder / image(1)).symlink_to(folder / "elsewhere.nii.gz")


ROWS = (
    Row(
        "truncated", PRETRAIN, ("images/1.nii.gz: gzip data end early", AGAIN), spoil(lambda f: truncate(f / image(1)))
    ),
    Row(
        "truncated label",
        FINETUNE,
        ("labels/1.nii.gz: gzip data end early", AGAIN),
        spoil(lambda f: truncate(f / label(1))),
    ),
    Row(
        "truncated at inference",
        INFERENCE,
        ("images/1.nii.gz: gzip data end early", AGAIN),
        trained(lambda f: truncate(f / image(1))),
        files=RUN,
    ),
    Row("truncated NRRD", CHECK, ("images/1.nrrd: ", AGAIN), spoil(lambda f: truncate(in_format(f, ".nrrd")))),
    Row("truncated MetaImage", PRETRAIN, ("images/1.mha: ", AGAIN), spoil(lambda f: truncate(in_format(f, ".mha")))),
    Row(
        "truncated NRRD without compression",
        CHECK,
        ("images/1.nrrd: ", AGAIN),
        spoil(lambda f: truncate(in_format(f, ".nrrd", compress=False))),
    ),
    Row(
        "truncated MetaImage without compression",
        CHECK,
        ("images/1.mha: ", AGAIN),
        spoil(lambda f: truncate(in_format(f, ".mha", compress=False))),
    ),
    Row(
        "damaged NRRD",
        FINETUNE,
        ("images/1.nrrd: ", AGAIN),
        spoil(lambda f: patch_bytes(in_format(f, ".nrrd"), flip_a_bit)),
    ),
    Row("no bytes", FINETUNE, ("images/1.nii.gz: is empty", AGAIN), spoil(lambda f: (f / image(1)).write_bytes(b""))),
    Row(
        "no bytes at inference",
        INFERENCE,
        ("images/1.nii.gz: is empty", AGAIN),
        trained(lambda f: (f / image(1)).write_bytes(b"")),
        files=RUN,
    ),
    Row(
        "wrong checksum",
        CHECK,
        ("images/1.nii.gz: gzip checksum mismatch", AGAIN),
        spoil(lambda f: damage_checksum(f / image(1))),
    ),
    Row(
        "wrong checksum at inference",
        INFERENCE,
        ("images/1.nii.gz: gzip checksum mismatch", AGAIN),
        trained(lambda f: damage_checksum(f / image(1))),
        files=RUN,
    ),
    Row(
        "wrong checksum of a label",
        EVALUATE,
        ("labels/1.nii.gz: gzip checksum mismatch", AGAIN),
        trained(lambda f: damage_checksum(f / label(1))),
    ),
    Row(
        "flipped bit",
        PRETRAIN,
        ("images/1.nii.gz: gzip", AGAIN),
        spoil(lambda f: patch_bytes(f / image(1), flip_a_bit)),
    ),
    Row(
        "foreign data after the stream",
        CHECK,
        ("images/1.nii.gz: has foreign data after the gzip stream", AGAIN),
        spoil(lambda f: patch_bytes(f / image(1), lambda content: content + b"more")),
    ),
    Row(
        "HTML page",
        PRETRAIN,
        ("images/1.nii.gz: is an HTML page, not an image", "download it again"),
        replaced(b"<!DOCTYPE html><html><body>404</body></html>"),
    ),
    Row(
        "git-lfs pointer",
        CHECK,
        ("images/1.nii.gz: is a git-lfs pointer", "git lfs pull"),
        replaced(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 100\n"),
    ),
    Row(
        "resource file of macOS",
        FINETUNE,
        ("images/._1.nii.gz: is a macOS resource file", "leave files named ._* out"),
        spoil(as_resource_file),
    ),
    Row("text", CHECK, ("images/1.nii.gz: is neither gzip nor NIfTI data", AGAIN), replaced(b"no image at all")),
    Row(
        "gzip of something else",
        PRETRAIN,
        ("images/1.nii.gz: is not a NIfTI file", "convert it"),
        replaced(gzip.compress(bytes(1000))),
    ),
    Row(
        "image missing",
        PRETRAIN,
        ("images/1.nii.gz: no such file", "correct the path"),
        spoil(lambda f: (f / image(1)).unlink()),
    ),
    Row(
        "label missing",
        FINETUNE,
        ("labels/1.nii.gz: no such file", "correct the path"),
        spoil(lambda f: (f / label(1)).unlink()),
    ),
    Row("folder in place of a file", CHECK, ("images/1.nii.gz: is a folder", "name the file"), spoil(as_folder)),
    Row(
        "header claims 32767 voxels along each axis",
        PRETRAIN,
        ("images/1.nii.gz: header claims 32767x32767x32767 voxels, more than the file can hold", AGAIN),
        spoil(lambda f: edit_header(f / image(1), DIMENSIONS, "4h", 3, 32767, 32767, 32767)),
    ),
    Row(
        "header claims more slices",
        INFERENCE,
        ("images/1.nii.gz: header claims 32x32x40 voxels", AGAIN),
        trained(lambda f: edit_header(f / image(1), DIMENSIONS, "4h", 3, 32, 32, 40)),
        files=RUN,
    ),
    Row(
        "header claims fewer slices",
        CHECK,
        ("images/1.nii.gz: header claims 32x32x20 voxels", "bytes more", "correct the header"),
        spoil(lambda f: edit_header(f / image(1), DIMENSIONS, "4h", 3, 32, 32, 20)),
    ),
    Row(
        "header claims no slices",
        EVALUATE,
        ("images/1.nii.gz: header claims the shape 32x32x0", AGAIN),
        trained(lambda f: edit_header(f / image(1), DIMENSIONS, "4h", 3, 32, 32, 0)),
    ),
    Row("npy with a pickle", CHECK, ("images/1.npy: unknown format", "convert it to .nii.gz"), spoil(with_pickle)),
    Row(
        "npy with a pickle at inference",
        inference(input="{}/cohort/images/1.npy"),
        ("images/1.npy: is not one of .nii", "convert it to .nii.gz"),
        trained(with_pickle),
        files=RUN,
    ),
    # odd but legal
    Row(
        "plain data named .nii.gz",
        PRETRAIN,
        ("Toy/1: is plain, not gzip, data against its name",),
        spoil(lambda f: as_plain(f / image(1))),
        legal=True,
        files=frozenset({"encoder.pt"}),
    ),
    Row(
        "gzip data named .nii",
        CHECK,
        ("Toy/1: is gzip data against its name",),
        spoil(lambda f: rename(f, "images/1.nii")),
        legal=True,
        files=frozenset(),
    ),
    Row(
        "two gzip members",
        CHECK,
        ("0 errors, 0 notices",),
        spoil(lambda f: patch_bytes(f / image(1), in_two_members)),
        legal=True,
        files=frozenset(),
    ),
    Row(
        "zeros after the gzip stream",
        CHECK,
        ("0 errors",),
        spoil(lambda f: patch_bytes(f / image(1), lambda content: content + bytes(512))),
        legal=True,
        files=frozenset(),
    ),
    Row(
        "big-endian voxels",
        PRETRAIN,
        (),
        spoil(as_big_endian),
        legal=True,
        files=frozenset({"encoder.pt"}),
    ),
    Row("NIfTI-2", FINETUNE, (), spoil(as_second_version), legal=True, files=frozenset({"model.pt"})),
    Row(
        "capitals, spaces and umlauts in a name",
        INFERENCE,
        (),
        trained(lambda f: rename(f, "images/Müller Ä 1.NII.GZ")),
        legal=True,
        files=frozenset({"*Müller Ä 1*.nii.gz"}),
    ),
    Row("NRRD", PRETRAIN, (), spoil(lambda f: in_format(f, ".nrrd")), legal=True, files=frozenset({"encoder.pt"})),
    Row(
        "MetaImage", INFERENCE, (), trained(lambda f: in_format(f, ".mha")), legal=True, files=frozenset({"*1*.nii.gz"})
    ),
    Row("symbolic link", CHECK, ("0 errors",), spoil(as_link), legal=True, files=frozenset()),
)


@pytest.mark.parametrize(("row", "workers"), parametrized(ROWS))
def test_bad_files_are_refused_and_odd_ones_work(row: Row, workers: int | None, tmp_path: Path) -> None:
    (assert_works if row.legal else assert_refused)(row, tmp_path, workers)
