"""Images and labels that do not lie where they should, given to the real command line."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from abdomen_rows import (
    CHECK,
    EVALUATE,
    FINETUNE,
    INFERENCE,
    PRETRAIN,
    both,
    edit_header,
    inference,
    pretrain,
    spoil,
    trained,
)
from catalogue import NOTHING, RUN, Prepare, Row, assert_refused, assert_works, parametrized
from mixcl_inputs import image, label, rewrite

# places of fields in the header of NIfTI-1
PIXDIM, UNITS, QFORM_CODE, SFORM_CODE, QOFFSET_X, SFORM = 76, 123, 252, 254, 268, 280
METRE, MICRON = 1, 3
SHEARED = np.array([[1.0, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
WORKS: dict[str, Any] = {"legal": True, "files": frozenset({"encoder.pt"})}
PASSES: dict[str, Any] = {"legal": True, "files": NOTHING}


def moved(millimetres: float) -> np.ndarray:
    affine = np.eye(4)
    affine[0, 3] = millimetres
    return affine


def with_label(change: Any, affine: np.ndarray | None = None) -> Prepare:
    """The label of a patient has other voxels or lies elsewhere."""
    return spoil(lambda folder: rewrite(folder / label(1), change, affine))


def with_both(change: Any, affine: np.ndarray | None = None) -> Prepare:
    """Image and label of a patient have other voxels or lie elsewhere."""
    return spoil(lambda folder: both(folder, lambda path: rewrite(path, change, affine)))


def same(data: np.ndarray) -> np.ndarray:
    return data


def with_axes_swapped(folder: Path) -> None:
    rewrite(folder / image(1), lambda data: data[:, :, :20])
    rewrite(folder / label(1), lambda data: np.ascontiguousarray(data[:, :, :20].transpose(2, 1, 0)))


def in_unit(path: Path, code: int, length: float) -> None:
    """Lengths of the header in another unit than mm."""
    edit_header(path, UNITS, "b", code)
    edit_header(path, PIXDIM + 4, "3f", length, length, length)
    edit_header(path, SFORM, "12f", *(length * np.eye(4)[:3]).ravel())


def without_codes(path: Path) -> None:
    edit_header(path, QFORM_CODE, "2h", 0, 0)


def with_other_qform(path: Path) -> None:
    edit_header(path, QFORM_CODE, "2h", 1, 1)
    edit_header(path, QOFFSET_X, "f", 30.0)


def without_spacing(path: Path) -> None:
    edit_header(path, PIXDIM + 12, "f", 0.0)
    edit_header(path, SFORM, "12f", 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)


def with_negative_spacing(path: Path) -> None:
    edit_header(path, QFORM_CODE, "2h", 1, 0)
    edit_header(path, PIXDIM + 12, "f", -1.0)


def with_flat_axes(path: Path) -> None:
    edit_header(path, SFORM, "12f", 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0)


def in_frames(data: np.ndarray) -> np.ndarray:
    return np.stack([data, data + 1, data], -1)


def as_slice(path: Path) -> None:
    rewrite(path, lambda data: data[:, :, 12:13])


def in_two_dimensions(path: Path) -> None:
    rewrite(path, lambda data: data[:, :, 12])


def image_of_whole_body(folder: Path) -> None:
    """The label was cut out; its place in the header is right."""
    rewrite(folder / label(1), lambda data: data[4:28], moved(4.0))


def turned(folder: Path) -> None:
    """The label is stored with its first axis reversed, and its header says so: same place, other order of voxels."""
    affine = np.diag([-1.0, 1, 1, 1])
    affine[0, 3] = 31
    rewrite(folder / label(1), lambda data: data[::-1].copy(), affine)


ROWS = (
    Row(
        "label with fewer slices",
        PRETRAIN,
        ("labels/1.nii.gz: has 32x32x24 voxels", "images/1.nii.gz has 32x32x32", "resample it"),
        with_label(lambda data: data[:, :, :24]),
    ),
    Row(
        "label with fewer slices at an evaluation",
        EVALUATE,
        ("labels/1.nii.gz: has 32x32x24 voxels", "images/1.nii.gz has 32x32x32", "resample it"),
        trained(lambda folder: rewrite(folder / label(1), lambda data: data[:, :, :24])),
    ),
    Row(
        "label with another spacing",
        FINETUNE,
        ("labels/1.nii.gz: lies up to 31 mm away from {}/cohort/images/1.nii.gz", "correct the header"),
        with_label(same, np.diag([1.0, 1, 2, 1])),
    ),
    Row(
        "label cut out of the image",
        PRETRAIN,
        ("labels/1.nii.gz: has 24x32x32 voxels", "resample it"),
        spoil(image_of_whole_body),
    ),
    Row(
        "label with its axes swapped",
        CHECK,
        ("labels/1.nii.gz: has 20x32x32 voxels", "images/1.nii.gz has 32x32x20", "resample it"),
        spoil(with_axes_swapped),
    ),
    Row(
        "label 15 mm away",
        PRETRAIN,
        ("labels/1.nii.gz: lies up to 15 mm away", "correct the header, or in Python accept the first file"),
        with_label(same, moved(15.0)),
    ),
    Row(
        "label with a flipped affine",
        FINETUNE,
        ("labels/1.nii.gz: lies up to 62 mm away", "correct the header"),
        with_label(same, np.diag([-1.0, 1, 1, 1])),
    ),
    Row(
        "label stored in another order",
        CHECK,
        ("labels/1.nii.gz: lies up to 31 mm away", "correct the header"),
        spoil(turned),
    ),
    Row(
        "spacing 0",
        PRETRAIN,
        ("images/1.nii.gz: spacing along axis 2 is 0 mm", "correct the header's spacing"),
        spoil(lambda folder: without_spacing(folder / image(1))),
    ),
    Row(
        "spacing 0 at inference",
        INFERENCE,
        ("images/1.nii.gz: spacing along axis 2 is 0 mm", "correct the header's spacing"),
        trained(lambda folder: without_spacing(folder / image(1))),
        files=RUN,
    ),
    Row(
        "negative spacing",
        CHECK,
        ("images/1.nii.gz: orientation in the header is damaged", "export the file again"),
        spoil(lambda folder: with_negative_spacing(folder / image(1))),
    ),
    Row(
        "two axes that point the same way",
        CHECK,
        ("images/1.nii.gz: ", "correct the header's"),
        spoil(lambda folder: with_flat_axes(folder / image(1))),
    ),
    Row(
        "NaN in the sform",
        EVALUATE,
        ("images/1.nii.gz: affine holds NaN or infinity", "export the file again"),
        trained(lambda folder: edit_header(folder / image(1), SFORM, "f", np.nan)),
    ),
    Row(
        "infinity in the sform",
        INFERENCE,
        ("images/1.nii.gz: affine holds NaN or infinity", "export the file again"),
        trained(lambda folder: edit_header(folder / image(1), SFORM + 12, "f", np.inf)),
        files=RUN,
    ),
    Row(
        "image with three frames",
        PRETRAIN,
        ("images/1.nii.gz: is 4D (32x32x32x3), expected 3D", "extract the volume that is meant"),
        spoil(lambda folder: rewrite(folder / image(1), in_frames)),
    ),
    Row(
        "image with three frames at inference",
        INFERENCE,
        ("images/1.nii.gz: is 4D (32x32x32x3), expected 3D", "extract the volume that is meant"),
        trained(lambda folder: rewrite(folder / image(1), in_frames)),
        files=RUN,
    ),
    Row(
        "label with three frames",
        FINETUNE,
        ("labels/1.nii.gz: is 4D (32x32x32x3), expected 3D", "extract the volume that is meant"),
        with_label(lambda data: np.stack([data, data, data], -1)),
    ),
    Row(
        "image of two dimensions",
        PRETRAIN,
        ("images/1.nii.gz: is 2D (32x32), expected 3D", "extract the volume that is meant"),
        spoil(lambda folder: in_two_dimensions(folder / image(1))),
    ),
    Row(
        "five dimensions",
        CHECK,
        ("images/1.nii.gz: has 5 dimensions, expected 2 to 4", "split it into 3D volumes"),
        spoil(lambda folder: rewrite(folder / image(1), lambda data: np.stack([in_frames(data)] * 2, -1))),
    ),
    Row(
        "patch of another size than the network takes",
        pretrain(patch_size=[24, 24, 24]),
        ("img_size is [24, 24, 24]", "multiple of 16"),
        spoil(),
    ),
    # odd but legal
    Row("sheared axes", PRETRAIN, ("Toy/1: has a sheared affine",), with_both(same, SHEARED), **WORKS),
    Row(
        "sheared axes at inference",
        inference(input="{}/cohort/images/1.nii.gz"),
        (),
        trained(lambda folder: rewrite(folder / image(1), same, SHEARED)),
        legal=True,
        files=frozenset({"1*.nii.gz"}),
    ),
    Row(
        "no orientation at inference",
        inference(input="{}/cohort/images/1.nii.gz"),
        ("input/1: declares neither sform nor qform, so its orientation is a guess",),
        trained(lambda folder: without_codes(folder / image(1))),
        legal=True,
        files=frozenset({"1*.nii.gz"}),
    ),
    Row(
        "no orientation of image and label",
        PRETRAIN,
        ("Toy/1: declares neither sform nor qform, so its orientation is a guess",),
        spoil(lambda folder: both(folder, without_codes)),
        **WORKS,
    ),
    Row(
        "sform and qform that disagree",
        PRETRAIN,
        ("Toy/1: has a qform that differs from its sform; the sform is used",),
        spoil(lambda folder: with_other_qform(folder / image(1))),
        **WORKS,
    ),
    Row("left-handed axes", PRETRAIN, (), with_both(same, np.diag([-1.0, 1, 1, 1])), **WORKS),
    Row(
        "lengths in metres",
        CHECK,
        ("32 x 32 x 32  1 x 1 x 1", "0 errors"),
        spoil(lambda folder: both(folder, lambda path: in_unit(path, METRE, 0.001))),
        **PASSES,
    ),
    Row(
        "lengths in microns",
        PRETRAIN,
        (),
        spoil(lambda folder: both(folder, lambda path: in_unit(path, MICRON, 1000.0))),
        **WORKS,
    ),
    Row(
        "lengths in metres at inference",
        inference(input="{}/cohort/images/1.nii.gz"),
        (),
        trained(lambda folder: in_unit(folder / image(1), METRE, 0.001)),
        legal=True,
        files=frozenset({"1*.nii.gz"}),
    ),
    Row(
        "four dimensions, one frame",
        FINETUNE,
        (),
        with_both(lambda data: data[..., None]),
        legal=True,
        files=frozenset({"model.pt"}),
    ),
    Row(
        "smaller than the patch",
        PRETRAIN,
        ("Toy/1: is smaller than the patch of 32x32x32 voxels; it is padded with zeros",),
        with_both(lambda data: data[:20]),
        **WORKS,
    ),
    Row(
        "one slice",
        PRETRAIN,
        ("Toy/1: is smaller than the patch of 32x32x32 voxels; it is padded with zeros",),
        spoil(lambda folder: both(folder, as_slice)),
        **WORKS,
    ),
    Row(
        "inference on one slice",
        inference(input="{}/cohort/images/1.nii.gz"),
        (),
        trained(lambda folder: as_slice(folder / image(1))),
        legal=True,
        files=frozenset({"1*.nii.gz"}),
    ),
    Row(
        "oblique axes",
        FINETUNE,
        (),
        with_both(same, nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0.1, 0.3), [5, 6, 7])),
        legal=True,
        files=frozenset({"model.pt"}),
    ),
    Row(
        "label a twentieth of a voxel away",
        CHECK,
        ("Toy/1: has affines that differ between its files (less than a tenth of a voxel)",),
        with_label(same, moved(0.05)),
        **PASSES,
    ),
)


@pytest.mark.parametrize(("row", "workers"), parametrized(ROWS))
def test_wrong_places_are_refused_and_odd_ones_work(row: Row, workers: int | None, tmp_path: Path) -> None:
    (assert_works if row.legal else assert_refused)(row, tmp_path, workers)
