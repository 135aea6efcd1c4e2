"""Labels with wrong values and images with wrong intensities, given to the real command line."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from abdomen_rows import (
    CHECK,
    EVALUATE,
    FINETUNE,
    INFERENCE,
    PRETRAIN,
    edit_header,
    spoil,
    trained,
)
from catalogue import NOTHING, RUN, Prepare, Row, assert_refused, assert_works, parametrized
from mixcl_inputs import image, label, rewrite, with_voxel

EXPORT = "export the image again"
SLOPE = 112  # place of scl_slope in the header
WORKS: dict[str, Any] = {"legal": True, "files": frozenset({"encoder.pt"})}
PASSES: dict[str, Any] = {"legal": True, "files": NOTHING}
COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def with_label(change: Any) -> Prepare:
    return spoil(lambda folder: rewrite(folder / label(1), change))


def with_image(change: Any) -> Prepare:
    return spoil(lambda folder: rewrite(folder / image(1), change))


def voxel_of_label(value: float, dtype: type = np.float32) -> Any:
    def change(data: np.ndarray) -> np.ndarray:
        data = data.astype(dtype)
        data[0, 0, 0] = value
        return data

    return change


def one_hot(data: np.ndarray) -> np.ndarray:
    return np.stack([data == value for value in range(3)], -1).astype(np.uint8)


def coloured(data: np.ndarray) -> np.ndarray:
    return np.stack([data.astype(np.uint8)] * 3, -1).view(COLOURS)[..., 0]


def validated_without_foreground(folder: Path) -> None:
    for number in range(4):
        rewrite(folder / label(number), lambda data: data * 0)


def image_as_label(folder: Path) -> None:
    shutil.copy(folder / image(1), folder / label(1))


ROWS = (
    Row(
        "label value 7",
        PRETRAIN,
        ("labels/1.nii.gz: label values 7 are not in the manifest", "1 liver", "correct one of the two"),
        with_label(voxel_of_label(7, np.uint8)),
    ),
    Row(
        "mask of 0 and 255",
        FINETUNE,
        ("labels/1.nii.gz: label values 255 are not in the manifest", "correct one of the two"),
        with_label(lambda data: (data > 0).astype(np.uint8) * 255),
    ),
    Row(
        "label value 7 at an evaluation",
        EVALUATE,
        ("labels/1.nii.gz: label values 7 are not in the manifest", "correct one of the two"),
        trained(lambda folder: rewrite(folder / label(1), voxel_of_label(7, np.uint8))),
    ),
    Row(
        "image in place of the label",
        CHECK,
        ("labels/1.nii.gz: label values ", "correct one of the two"),
        spoil(image_as_label),
    ),
    Row(
        "label value -1",
        PRETRAIN,
        ("labels/1.nii.gz: label values -1 are not in the manifest", "correct one of the two"),
        with_label(voxel_of_label(-1, np.int16)),
    ),
    Row(
        "label value -1 stored as float",
        CHECK,
        ("labels/1.nii.gz: label values -1 are not in the manifest", "correct one of the two"),
        with_label(voxel_of_label(-1)),
    ),
    Row(
        "NaN in a label",
        FINETUNE,
        ("labels/1.nii.gz: label has NaN or infinite voxels", "export it again"),
        with_label(voxel_of_label(np.nan)),
    ),
    Row(
        "label value 0.5",
        PRETRAIN,
        ("labels/1.nii.gz: label values are not whole numbers (0.5", "nearest neighbour"),
        with_label(voxel_of_label(0.5)),
    ),
    Row(
        "label value 4e9",
        CHECK,
        ("labels/1.nii.gz: label values 4", "are not in the manifest", "correct one of the two"),
        with_label(voxel_of_label(4e9, np.float64)),
    ),
    Row(
        "one-hot label",
        FINETUNE,
        ("labels/1.nii.gz: is 4D (32x32x32x3), expected 3D", "extract the volume that is meant"),
        with_label(one_hot),
    ),
    Row(
        "all labels that validate empty",
        FINETUNE,
        ("reference foreground", "fold"),
        spoil(validated_without_foreground),
    ),
    Row(
        "NaN in an image",
        PRETRAIN,
        ("images/1.nii.gz: 1 voxels are NaN or infinite, the first at (3, 4, 5)", EXPORT),
        with_image(with_voxel(np.nan)),
    ),
    Row(
        "NaN in an image at inference",
        INFERENCE,
        ("images/1.nii.gz: 1 voxels are NaN or infinite",),
        trained(lambda folder: rewrite(folder / image(1), with_voxel(np.nan))),
        files=RUN,
    ),
    Row(
        "NaN in an image at an evaluation",
        EVALUATE,
        ("images/1.nii.gz: 1 voxels are NaN or infinite", EXPORT),
        trained(lambda folder: rewrite(folder / image(1), with_voxel(np.nan))),
    ),
    Row(
        "infinity in an image",
        FINETUNE,
        ("images/1.nii.gz: 1 voxels are NaN or infinite", EXPORT),
        with_image(with_voxel(-np.inf)),
    ),
    Row(
        "infinity in an image at inference",
        INFERENCE,
        ("images/1.nii.gz: 1 voxels are NaN or infinite",),
        trained(lambda folder: rewrite(folder / image(1), with_voxel(np.inf))),
        files=RUN,
    ),
    Row("constant image", PRETRAIN, ("images/1.nii.gz: all voxels are 0", EXPORT), with_image(lambda data: data * 0)),
    Row(
        "scaling by infinity",
        CHECK,
        ("images/1.nii.gz: intensity scaling is inf x", "correct scl_slope"),
        spoil(lambda folder: edit_header(folder / image(1), SLOPE, "f", np.inf)),
    ),
    Row(
        "scaling by infinity at inference",
        INFERENCE,
        ("images/1.nii.gz: intensity scaling is inf x", "correct scl_slope"),
        trained(lambda folder: edit_header(folder / image(1), SLOPE, "f", np.inf)),
        files=RUN,
    ),
    Row(
        "scaling that overflows",
        CHECK,
        ("images/1.nii.gz: ", "voxels are NaN or infinite", EXPORT),
        spoil(lambda folder: edit_header(folder / image(1), SLOPE, "f", 3e38)),
    ),
    Row(
        "complex voxels",
        PRETRAIN,
        ("images/1.nii.gz: voxels are complex64, expected one real number each", "convert it"),
        with_image(lambda data: data.astype(np.complex64)),
    ),
    Row(
        "voxels in colour",
        FINETUNE,
        ("images/1.nii.gz: voxels are ", "expected one real number each"),
        with_image(coloured),
    ),
    # odd but legal
    Row(
        "label values 0.9999",
        PRETRAIN,
        ("Toy/1: has label values within 0.001 of whole numbers; they are rounded",),
        with_label(lambda data: data * np.float32(0.9999)),
        **WORKS,
    ),
    Row(
        "label without foreground", PRETRAIN, ("Toy/1: has no foreground",), with_label(lambda data: data * 0), **WORKS
    ),
    Row(
        "label without background",
        CHECK,
        ("Toy/1: has no background",),
        with_label(lambda data: data * 0 + 1),
        **PASSES,
    ),
    Row(
        "label stored as float",
        FINETUNE,
        (),
        with_label(lambda data: data.astype(np.float32)),
        legal=True,
        files=frozenset({"model.pt"}),
    ),
    Row(
        "intensities wrapped to uint16",
        PRETRAIN,
        ("Toy/1: has no intensity within the window from -150 to 250",),
        with_image(lambda data: (data.astype(np.int32) - 1024).astype(np.uint16)),
        **WORKS,
    ),
    Row(
        "one voxel far out",
        CHECK,
        ("0 errors",),
        with_image(with_voxel(1e6)),
        **PASSES,
    ),
    Row(
        "label that no case has",
        CHECK,
        ("label 2 (spleen) is in no case",),
        spoil(lambda folder: [rewrite(folder / label(n), lambda data: (data == 1).astype(np.uint8)) for n in range(4)]),
        **PASSES,
    ),
    Row(
        "intensities with slope and intercept",
        PRETRAIN,
        (),
        spoil(lambda folder: edit_header(folder / image(1), SLOPE, "2f", 2.0, -5.0)),
        **WORKS,
    ),
    Row(
        "image of float64",
        FINETUNE,
        (),
        with_image(lambda data: data.astype(np.float64)),
        legal=True,
        files=frozenset({"model.pt"}),
    ),
)


@pytest.mark.parametrize(("row", "workers"), parametrized(ROWS))
def test_wrong_values_are_refused_and_odd_ones_work(row: Row, workers: int | None, tmp_path: Path) -> None:
    (assert_works if row.legal else assert_refused)(row, tmp_path, workers)
