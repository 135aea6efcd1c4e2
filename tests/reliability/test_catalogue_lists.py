"""Lists of cases that are wrong or incomplete, given to the real command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from abdomen_rows import CHECK, FINETUNE, PRETRAIN, finetune, inference, list_as, spoil, trained
from catalogue import RUN, Row, assert_refused, assert_works, mtmed, parametrized, run_row
from list_rows import (
    MANIFEST,
    ONCE,
    PASSES,
    WORKS,
    listed,
    manifest_of,
    row_with,
    row_without,
    second_cohort,
    text,
    two_labels_swapped,
    unlisted,
)
from mixcl_inputs import (
    change_manifest,
    damage_checksum,
    image,
    label,
    rewrite,
    with_voxel,
    write_abdomens,
    write_json,
)

ROWS = (
    Row(
        "no manifest",
        PRETRAIN,
        ("{}/cohort: has no dataset.json", "mtmed manifest"),
        spoil(lambda folder: manifest_of(folder).unlink()),
        files=RUN,
    ),
    Row("no folder", CHECK, ("{}/cohort: no such file or folder", "check the path")),
    Row(
        "no folder of a fine-tuning",
        FINETUNE,
        ("{}/cohort: no such file or folder", "check the path"),
        files=RUN,
    ),
    Row(
        "list is no JSON",
        PRETRAIN,
        ("dataset.json: is not JSON: ", "in line 1", "correct that line"),
        text(lambda content: content[:-10]),
        files=RUN,
    ),
    Row(
        "list is not text",
        CHECK,
        ("dataset.json: is not text", "give a JSON file"),
        spoil(lambda folder: shutil.copy(folder / image(1), manifest_of(folder))),
    ),
    Row("list is empty", FINETUNE, ("dataset.json: is not JSON", "line 1"), text(lambda content: ""), files=RUN),
    Row(
        "list is an array",
        CHECK,
        ("dataset.json: holds a list", "give an object with"),
        text(lambda content: f"[{content}]"),
    ),
    Row(
        "key twice",
        PRETRAIN,
        ("dataset.json: has the key 'test' twice", "keep one"),
        text(lambda content: content[:-1] + ', "test": []}'),
        files=RUN,
    ),
    Row(
        "no rows",
        PRETRAIN,
        ("dataset.json: 'training' is NoneType, not a list", "list rows"),
        listed(lambda content: content.update(train=content.pop("training"))),
        files=RUN,
    ),
    Row(
        "training empty",
        FINETUNE,
        ("dataset.json: 'training' is empty", "list at least one case"),
        listed(lambda content: content.update(training=[])),
        files=RUN,
    ),
    Row(
        "only test cases",
        PRETRAIN,
        ("dataset.json: 'training' is empty", "list at least one case"),
        listed(
            lambda content: content.update(test=[{"image": row["image"]} for row in content["training"]], training=[])
        ),
        files=RUN,
    ),
    Row(
        "misspelt key of a row",
        CHECK,
        ("dataset.json training[1]: has the unknown key 'lable'", "image, label"),
        listed(lambda content: content["training"][1].update(lable=content["training"][1].pop("label"))),
    ),
    Row(
        "no label key",
        PRETRAIN,
        ("dataset.json training[1]: has no 'label'", "give its path"),
        row_without("label"),
        files=RUN,
    ),
    Row(
        "no image key",
        FINETUNE,
        ("dataset.json training[1]: 'image' is None", "give a path"),
        row_without("image"),
        files=RUN,
    ),
    Row("number for a path", CHECK, ("dataset.json training[1]: 'image' is 5", "give a path"), row_with(image=5)),
    Row(
        "two images for one modality",
        PRETRAIN,
        ("dataset.json training[1]: has 2 images for 1 modalities", "one path per modality"),
        row_with(image=["images/1.nii.gz", "images/2.nii.gz"]),
        files=RUN,
    ),
    Row("no labels", CHECK, ("dataset.json: 'labels' is", ""), listed(lambda content: content.pop("labels"))),
    Row(
        "no modality",
        FINETUNE,
        ("dataset.json: 'modality' is None", "number the image channels"),
        listed(lambda content: content.pop("modality")),
        files=RUN,
    ),
    Row(
        "patient in some rows only",
        CHECK,
        ("dataset.json training[1]: has no 'patient'", "give it to all rows"),
        row_without("patient"),
    ),
    Row(
        "visit without a patient",
        PRETRAIN,
        ("dataset.json training[1]: has 'visit' or 'slice' but no 'patient'", "say whose it is"),
        listed(lambda content: (content["training"][1].pop("patient"), content["training"][1].update(visit="2"))),
        files=RUN,
    ),
    # the list is made by a layout
    Row(
        "label whose image is missing",
        MANIFEST,
        ("{}/cohort: 1 label(s) without an image", "labels/1.nii.gz", "fetch the missing images"),
        unlisted(lambda folder: (folder / image(1)).unlink()),
        **ONCE,
    ),
    Row(
        "no image of the layout",
        MANIFEST,
        ("{}/cohort: no file matches 'scans/{case}.nii.gz'", "give the folder"),
        unlisted(image="scans/{case}.nii.gz"),
        **ONCE,
    ),
    Row(
        "unknown layout",
        mtmed("manifest", "msd_splen", "{}/cohort"),
        ("msd_splen", "did you mean 'msd_spleen'"),
        unlisted(),
        **ONCE,
    ),
    Row("unknown key of a layout", MANIFEST, ("layout.json", "'images'", "image"), unlisted(images="a"), **ONCE),
    Row(
        "list that is there",
        MANIFEST,
        ("{}/cohort/dataset.json: exists already", "--overwrite"),
        unlisted(lambda folder: write_json(manifest_of(folder), {})),
        **ONCE,
    ),
    Row(
        "shares above 100",
        mtmed("manifest", "{}/layout.json", "{}/cohort", "--shares", "70", "20", "20"),
        ("shares", "100"),
        unlisted(),
        **ONCE,
    ),
    # inference
    Row(
        "input missing",
        inference(input="{}/nowhere"),
        ("{}/nowhere: no such file or folder", "pass --input"),
        trained(),
        files=RUN,
    ),
    Row(
        "input without images",
        inference(input="{}/empty"),
        ("{}/empty: has no image", "pass --input with a folder of images"),
        trained(lambda folder: (folder / "empty").mkdir()),
        files=RUN,
    ),
    Row(
        "damaged test case",
        CHECK,
        ("images/4.nii.gz: gzip checksum mismatch", "copy or download the file again"),
        spoil(
            lambda folder: (
                rewrite(folder / image(1), lambda data: data),
                shutil.copy(folder / image(1), folder / image(4)),
                damage_checksum(folder / image(4)),
                change_manifest(folder, lambda content: content["test"].append("images/4.nii.gz")),
            )
        ),
    ),
    # odd but legal
    Row(
        "labels of two patients exchanged",
        CHECK,
        ("check that the label is this image's",),
        spoil(two_labels_swapped),
        **PASSES,
    ),
    Row(
        "label of another case",
        PRETRAIN,
        ("has the same label as",),
        row_with(label="labels/2.nii.gz"),
        **WORKS,
    ),
    Row(
        "image whose label is missing",
        MANIFEST,
        ("1 image(s) without a label kept as test cases: 1",),
        unlisted(lambda folder: (folder / label(1)).unlink()),
        legal=True,
        **ONCE,
    ),
    Row(
        "no patients",
        PRETRAIN,
        ("Toy: no row has 'patient', so each case counts as its own patient",),
        listed(lambda content: [row.pop("patient") for row in content["training"]]),
        **WORKS,
    ),
    Row(
        "patient with labelled and test images",
        CHECK,
        ("Toy/4: is a test case of a patient who has labelled cases too",),
        spoil(
            lambda folder: (
                rewrite(folder / image(1), lambda data: data),
                shutil.copy(folder / image(1), folder / image(4)),
                rewrite(folder / image(4), lambda data: data + 1),
                change_manifest(
                    folder, lambda content: content["test"].append({"image": "images/4.nii.gz", "patient": "patient1"})
                ),
            )
        ),
        **PASSES,
    ),
    Row(
        "image outside of the folder",
        PRETRAIN,
        ("Toy/1: lies outside the folder of its manifest",),
        spoil(
            lambda folder: ((folder / image(1)).rename(folder / "1.nii.gz"), list_as(folder, "image", "../1.nii.gz"))
        ),
        **WORKS,
    ),
    Row(
        "absolute path",
        FINETUNE,
        (),
        spoil(lambda folder: list_as(folder, "image", str(folder / image(1)))),
        legal=True,
        files=frozenset({"model.pt"}),
    ),
    Row("list with a byte order mark", CHECK, ("0 errors",), text(lambda content: "\ufeff" + content), **PASSES),
    Row("fine-tuning without validation", finetune(fold="none"), (), spoil(), legal=True, files=frozenset({"last.pt"})),
    Row("two data sets", PRETRAIN, (), second_cohort(lambda content: None), **WORKS),
)


@pytest.mark.parametrize(("row", "workers"), parametrized(ROWS))
def test_wrong_lists_are_refused_and_odd_ones_work(row: Row, workers: int | None, tmp_path: Path) -> None:
    (assert_works if row.legal else assert_refused)(row, tmp_path, workers)


@pytest.mark.parametrize("words", [CHECK, PRETRAIN], ids=["check", "pretrain"])
def test_all_that_is_wrong_is_listed_at_once(words: tuple[str, ...], tmp_path: Path) -> None:
    write_abdomens(tmp_path)
    (tmp_path / image(0)).unlink()
    damage_checksum(tmp_path / image(1))
    rewrite(tmp_path / image(2), with_voxel(np.nan))
    rewrite(tmp_path / label(2), lambda data: data * 5)
    rewrite(tmp_path / label(3), lambda data: data[:30])
    done = run_row(Row("all at once", words, forked=True), tmp_path, 2)
    assert done.returncode == 1
    lines = [line.removeprefix("error: ") for line in done.stderr.splitlines() if str(tmp_path) in line]
    parts = ("images/0", "images/1", "images/2", "labels/2", "labels/3")
    assert [line.partition(".nii.gz: ")[0] for line in lines] == [f"{tmp_path}/cohort/{part}" for part in parts]
