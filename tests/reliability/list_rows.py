"""Lists of cases with something wrong or odd about them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from abdomen_rows import list_as, spoil
from catalogue import NOTHING, Prepare, mtmed
from mixcl_inputs import (
    SETTINGS,
    add_row,
    change_manifest,
    image,
    label,
    network,
    rewrite,
    write_abdomens,
    write_json,
)

from mtmed.bundle import patient_digests
from mtmed.data import load_cohort
from mtmed.networks import save_network

__all__ = [
    "LAYOUT",
    "MANIFEST",
    "ONCE",
    "PASSES",
    "WORKS",
    "all_in_fold",
    "copied",
    "in_test",
    "listed",
    "manifest_of",
    "parts_that_split_a_patient",
    "row_with",
    "row_without",
    "second_cohort",
    "text",
    "trained_on_all",
    "two_labels_swapped",
    "unlisted",
]

WORKS: dict[str, Any] = {"legal": True, "files": frozenset({"encoder.pt"})}
PASSES: dict[str, Any] = {"legal": True, "files": NOTHING}
MANIFEST = mtmed("manifest", "{}/layout.json", "{}/cohort")
ONCE: dict[str, Any] = {"workers": (None,), "files": NOTHING}
LAYOUT = {
    "name": "toy",
    "title": "Toy",
    "modalities": ["CT"],
    "labels": {"0": "background", "1": "liver", "2": "spleen"},
    "image": "images/{case}.nii.gz",
    "label": "labels/{case}.nii.gz",
    "patient": "{case}",
    "licence": "none",
    "source": "nowhere",
    "reference": "none",
}


def manifest_of(folder: Path) -> Path:
    return folder / "cohort" / "dataset.json"


def listed(change: Callable[[dict[str, Any]], Any]) -> Prepare:
    """Four abdomens whose list is changed."""
    return spoil(lambda folder: change_manifest(folder, change))


def row_with(**keys: Any) -> Prepare:
    """Four abdomens, one of whose rows has other keys."""
    return listed(lambda content: content["training"][1].update(keys))


def row_without(key: str) -> Prepare:
    return listed(lambda content: content["training"][1].pop(key))


def text(change: Callable[[str], str]) -> Prepare:
    """Four abdomens whose list is changed as text."""
    return spoil(lambda folder: manifest_of(folder).write_text(change(manifest_of(folder).read_text())))


def unlisted(change: Prepare = lambda folder: None, **layout: Any) -> Prepare:
    """Four abdomens without a list, and a layout to make one by."""

    def prepare(folder: Path) -> None:
        write_abdomens(folder)
        manifest_of(folder).unlink()
        write_json(folder / "layout.json", {**LAYOUT, **layout})
        change(folder)

    return prepare


def copied(**row: Any) -> Prepare:
    """An image once more, under another name."""

    def change(folder: Path) -> None:
        shutil.copy(folder / image(1), folder / image(4))
        shutil.copy(folder / label(1), folder / label(4))
        add_row(folder, image="images/4.nii.gz", label="labels/4.nii.gz", **row)

    return spoil(change)


def in_test(**row: Any) -> Prepare:
    """A row more, in the list of test cases."""
    return listed(lambda content: content["test"].append(row))


def second_cohort(change: Callable[[dict[str, Any]], Any]) -> Prepare:
    """Two data sets in one folder."""

    def prepare(folder: Path) -> None:
        for part in ("a", "b"):
            write_abdomens(folder / part)
            for number in range(4):
                # other noise: the same voxels twice would be refused
                rewrite(folder / part / image(number), lambda data, part=part: data + np.int16(part == "b"))
            change_manifest(folder / part, lambda content, part=part: content.update(name=f"Toy_{part}"))
            shutil.move(folder / part / "cohort", folder / "cohort" / part)
        change_in = folder / "cohort" / "b" / "dataset.json"
        content = json.loads(change_in.read_text())
        change(content)
        change_in.write_text(json.dumps(content))

    return prepare


def all_in_fold(content: dict[str, Any]) -> None:
    for row in content["training"]:
        row["fold"] = 0


def parts_that_split_a_patient(content: dict[str, Any]) -> None:
    for row, part in zip(content["training"], ("training", "validation", "test", "training"), strict=True):
        row["part"] = part
    content["training"][1]["patient"] = content["training"][0]["patient"]


def trained_on_all(folder: Path) -> None:
    digests = patient_digests(load_cohort(folder / "cohort").cases, key="patient")
    save_network(folder / "weights.pt", network(), {**SETTINGS, "trained_on": digests})


def two_labels_swapped(folder: Path) -> None:
    """The organs of six patients lie apart; two lists of labels are exchanged."""
    for number in (4, 5):
        shutil.copy(folder / image(number - 4), folder / image(number))
        shutil.copy(folder / label(number - 4), folder / label(number))
        add_row(folder, image=f"images/{number}.nii.gz", label=f"labels/{number}.nii.gz", patient=f"patient{number}")
    random = np.random.default_rng(1)
    for number in range(6):
        organs = np.zeros((32, 32, 32), np.uint8)
        organs[4 * number : 4 * number + 4, 4:28, 4:28] = 1
        organs[4:28, 4 * number + 4 : 4 * number + 8, 28:32] = 2
        scan = (60.0 * organs + random.normal(0, 5, organs.shape)).astype(np.int16)
        rewrite(folder / image(number), lambda data, scan=scan: scan)
        rewrite(folder / label(number), lambda data, organs=organs: organs)
    list_as(folder, "label", "labels/4.nii.gz", 1)
    list_as(folder, "label", "labels/1.nii.gz", 4)
