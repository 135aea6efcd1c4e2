"""What is unusual about X-rays and scans but legal trains, and the log says what was made of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from two_stage_inputs import (
    GOOD,
    Prepare,
    change_manifest,
    change_table,
    image,
    in_3d,
    options,
    part_of,
    spoil,
    spoil_hearts,
    table,
    teacher,
    together,
    write_dicom_image,
)
from two_stage_runs import HEART_ORGANS, pretraining_in_process, run_two_stage

from mtmed.networks.weights import load_weights
from mtmed.transforms.dicom import read_dicom_image

PNEUMOTHORAX = ["pneumothorax"]


def header(names: str) -> Prepare:
    """X-rays, of which the table has its columns named otherwise."""

    def change(folder: Path) -> None:
        table(folder).write_text(table(folder).read_text().replace("ImageId, EncodedPixels", names, 1))

    return spoil(change)


def rows(change: Callable[[list[list[str]]], list[list[str]]]) -> Prepare:
    """X-rays, of which the table has other rows."""
    return spoil(lambda folder: change_table(folder, change))


def negative(part: str) -> Prepare:
    """X-rays, of which those of a part show no pneumothorax."""

    def change(folder: Path) -> None:
        names = part_of(folder, part)
        change_table(folder, lambda old: [[n, "-1"] for n in sorted(names)] + [r for r in old if r[0] not in names])

    return spoil(change)


def of_another_shape(folder: Path) -> None:
    """A negative X-ray that is more wide than high."""
    with table(folder).open() as file:
        empty = {line.split(",")[0] for line in file if line.rstrip().endswith("-1")}
    place = next(number for number in range(16) if image(folder, number).stem in empty)
    pixels = np.random.default_rng(5).integers(0, 200, (90, 150)).astype(np.uint8)
    write_dicom_image(image(folder, place), pixels)


def as_png(folder: Path) -> None:
    """All images as PNG files of the same names."""
    for part in ("training", "test"):
        count = {"training": 16, "test": 8}[part]
        for path in [image(folder, number, part) for number in range(count)]:
            Image.fromarray(read_dicom_image(path).data[..., 0].T.astype(np.uint8)).save(path.with_suffix(".png"))
            path.unlink()
    text = (folder / "cohort" / "dataset.json").read_text()
    (folder / "cohort" / "dataset.json").write_text(text.replace(".dcm", ".png"))


def hearts(folder: Path, pattern: str) -> list[Path]:
    return sorted((folder / "cohort").glob(pattern))


def without_an_organ(folder: Path) -> None:
    """Hearts, of which one has no left ventricle."""
    path = hearts(folder, "*_label.nii.gz")[0]
    label = nib.load(path)
    nib.Nifti1Image(np.asarray(label.dataobj) & ~np.uint8(2), label.affine).to_filename(path)


def of_several_sizes(folder: Path) -> None:
    """Hearts, of which one has fewer rows and columns and two fewer slices."""
    for path in hearts(folder, "heart0*.nii.gz"):
        volume = nib.load(path)
        nib.Nifti1Image(np.asarray(volume.dataobj)[2:-1, 3:, 1:-1], volume.affine).to_filename(path)


def without_patients(folder: Path) -> None:
    change_manifest(folder, lambda content: [row.pop("patient") for row in content["training"] + content["test"]])


@dataclass(frozen=True)
class OddInput:
    """What is unusual but legal, and what the log says of it."""

    name: str
    prepare: Prepare
    said: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    stage: str = "stage1"
    organs: tuple[str, ...] = ("pneumothorax",)


HEARTS = {"organs": HEART_ORGANS}
ODD_INPUTS = (
    OddInput("columns without a blank in front", header("ImageId,EncodedPixels")),
    OddInput("columns in another order", spoil(lambda f: reorder(f))),
    OddInput("lines of another system", spoil(lambda f: table(f).write_bytes(crlf(table(f).read_bytes())))),
    OddInput("mark of the byte order", spoil(lambda f: table(f).write_bytes(b"\xef\xbb\xbf" + table(f).read_bytes()))),
    OddInput("rows in another order", rows(lambda old: old[::-1])),
    OddInput("row that stands twice", rows(lambda old: [old[0], *old])),
    OddInput("rows of -1 twice", rows(lambda old: [*old, *[row for row in old if row[1].strip() == "-1"][:1]])),
    OddInput(
        "row of an image that is not listed",
        rows(lambda old: [*old, ["1.2.3", "-1"]]),
        "Notice: Demo_Pneumothorax: train-rle.csv has rows for 1 image that no case lists, as 1.2.3",
    ),
    OddInput("X-ray that is not square", spoil(of_another_shape)),
    OddInput("images as PNG", spoil(as_png), "", {"task": "jigsaw", "unlabelled": True}),
    OddInput("images without a patient", spoil(without_patients), "", {"task": "rotation", "unlabelled": True}),
    OddInput(
        "training without a pneumothorax",
        negative("training"),
        "Notice: training: none of its 8 labelled cases has pneumothorax, which cannot be learnt from them",
        {"task": "inner_distance"},
    ),
    OddInput("outer distance without any organ", negative("training"), "Notice: training", {"task": "outer_distance"}),
    OddInput(
        "images without labels that are the rest of a fraction",
        spoil(lambda f: change_manifest(f, lambda content: content.update(test=[]))),
        "",
        {"task": "autoencoding", "unlabelled": True, "fraction": 50},
    ),
    OddInput("queue that is no multiple of the batch", GOOD, "", {"task": "momentum_contrast", "queue_size": 17}),
    OddInput("one image per batch", GOOD, "", {"task": "momentum_contrast", "batch_size": 1}),
    OddInput("all tasks on images without labels", GOOD, "", {"task": "all", "unlabelled": True}),
    OddInput("labels alone are not asked", teacher(), "", {"teachers": ["{}/model.pt"], "hard_weight": 0}, "distill"),
    OddInput(
        "teachers on images without labels", teacher(), "", {"teachers": ["{}/model.pt"], "unlabelled": True}, "distill"
    ),
    OddInput("organ that one scan lacks", spoil_hearts(without_an_organ), "", {"task": "contour"}, **HEARTS),
    OddInput("slices of several sizes", spoil_hearts(of_several_sizes), "", {"task": "inner_distance"}, **HEARTS),
    OddInput(
        "volumes of several sizes, some smaller than a patch",
        spoil_hearts(of_several_sizes),
        "",
        in_3d("unet3d", patch_size=[16, 32, 32], task="in_painting"),
        **HEARTS,
    ),
)


def reorder(folder: Path) -> None:
    lines = table(folder).read_text().splitlines()
    table(folder).write_text("".join(f"{text},{name}\n" for name, text in (line.split(",") for line in lines)))


def crlf(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=lambda odd: odd.name)
def test_odd_but_legal_input_trains(odd: OddInput, tmp_path: Path) -> None:
    odd.prepare(tmp_path)
    given = {"epochs": 1, "iterations_per_epoch": 1, **odd.options}
    folder = run_two_stage(odd.stage, options(odd.stage, tmp_path, given))
    assert odd.said in (folder / "log.txt").read_text()
    assert tuple(load_weights(folder / "model.pt")["settings"]["organs"]) == odd.organs


def losses(folder: Path, prepare: Prepare, **more: Any) -> bytes:
    """What a training on these images logs."""
    folder.mkdir()
    prepare(folder)
    with pretraining_in_process():
        run = run_two_stage("stage1", options("stage1", folder, {"epochs": 1, **more}))
    return (run / "losses.csv").read_bytes()


def bright_air(folder: Path) -> None:
    """All images stored the other way round."""
    for number in range(16):
        path = image(folder, number)
        content = path.read_bytes()
        old, new = (
            (b"MONOCHROME2 ", b"MONOCHROME1 ") if b"MONOCHROME2" in content else (b"MONOCHROME1 ", b"MONOCHROME2 ")
        )
        head, pixels = content[: -128 * 128], content[-128 * 128 :]
        if b"\x70\x00" in content[content.find(b"\x28\x00\x11\x00") :][:12]:  # 112 columns
            head, pixels = content[: -112 * 128], content[-112 * 128 :]
        inverted = (255 - np.frombuffer(pixels, np.uint8)).tobytes()
        path.write_bytes(head.replace(old.strip(), new.strip()) + inverted)


def test_images_stored_with_bright_air_change_nothing(tmp_path: Path) -> None:
    assert losses(tmp_path / "dark", GOOD) == losses(tmp_path / "bright", spoil(bright_air))


def test_a_table_in_other_words_changes_nothing(tmp_path: Path) -> None:
    good = losses(tmp_path / "good", GOOD, task="inner_distance")
    assert good == losses(tmp_path / "plain", header("ImageId,EncodedPixels"), task="inner_distance")
    assert good == losses(tmp_path / "turned", rows(lambda old: old[::-1]), task="inner_distance")


def test_a_test_part_without_a_pneumothorax_is_scored_as_far_as_that_goes(tmp_path: Path) -> None:
    together(negative("test"), teacher(seen="training"))(tmp_path)
    given = {"checkpoint": "{}/model.pt", "part": "test"}
    folder = run_two_stage("evaluate", options("evaluate", tmp_path, given))
    summary = json.loads((folder / "summary.json").read_text())
    area = summary["image_auc"]["pneumothorax"]
    assert (area["value"], area["positives"], area["negatives"]) == (None, 0, 4)
    scores = summary["organs"]["pneumothorax"]
    assert scores["positive_slice_dice"]["mean"] is None
    assert 0 <= scores["slice_dice_empty_one"]["mean"] <= 1
