"""Cohorts of chest X-rays and weights files with something wrong or odd about them."""

import csv
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from two_stage_runs import TINY_3D, TWO_STAGE, tiny_two_stage, write_hearts, write_x_rays

from mtmed.bundle import patient_digests
from mtmed.data import load_cohort, split_parts
from mtmed.networks import build_network, save_network
from mtmed.organ_masks import packed_names

__all__ = [
    "GOOD",
    "HEARTS",
    "Prepare",
    "change_manifest",
    "change_table",
    "image",
    "in_3d",
    "of_row",
    "options",
    "part_of",
    "replace_image",
    "spoil",
    "spoil_hearts",
    "table",
    "teacher",
    "together",
    "write_dicom_image",
    "written",
]

Prepare = Callable[[Path], Any]
Rows = list[list[str]]


# --- parts of a good cohort ---------------------------------------------------------------------------------------


@functools.cache
def _x_rays() -> tuple[tempfile.TemporaryDirectory[str], str]:
    # the first keeps the folder as long as the process
    folder = tempfile.TemporaryDirectory()
    return folder, write_x_rays(Path(folder.name))


def copy_x_rays(folder: Path) -> None:
    """16 labelled X-rays and 8 without labels."""
    if not (folder / "cohort").exists():
        shutil.copytree(_x_rays()[1], folder / "cohort")


def copy_hearts(folder: Path) -> None:
    """Eight labelled volumes and two without labels."""
    if not (folder / "cohort").exists():
        write_hearts(folder / "cohort")


def spoil(change: Prepare) -> Prepare:
    """X-rays with one thing changed."""
    return together(copy_x_rays, change)


def spoil_hearts(change: Prepare) -> Prepare:
    """Hearts with one thing changed."""
    return together(copy_hearts, change)


def together(*files: Prepare) -> Prepare:
    """All of these."""

    def prepare(folder: Path) -> None:
        for one in files:
            one(folder)

    return prepare


GOOD: Prepare = copy_x_rays
HEARTS: Prepare = copy_hearts


def table(folder: Path) -> Path:
    """The table of masks."""
    return folder / "cohort" / "train-rle.csv"


def content_of(folder: Path) -> dict[str, Any]:
    """What the manifest says."""
    content: dict[str, Any] = json.loads((folder / "cohort" / "dataset.json").read_text())
    return content


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = content_of(folder)
    change(content)
    (folder / "cohort" / "dataset.json").write_text(json.dumps(content))


def change_table(folder: Path, change: Callable[[Rows], Rows]) -> None:
    """Write the rows below the header anew."""
    with table(folder).open(newline="") as file:
        header, *rows = csv.reader(file)
    with table(folder).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *change(rows)])


def of_row(text: str) -> Prepare:
    """X-rays, of which the first row of the table has other run lengths."""
    return spoil(lambda folder: change_table(folder, lambda rows: [[rows[0][0], text], *rows[1:]]))


def image(folder: Path, place: int = 0, part: str = "training") -> Path:
    """An image, by its place in the manifest."""
    return folder / "cohort" / content_of(folder)[part][place]["image"]


def part_of(folder: Path, part: str) -> set[str]:
    """Names of the images of ``training``, ``validation`` or ``test``, as the tiny options split them."""
    given = tiny_two_stage("evaluate", {"data": "", "store": ""})
    cases = load_cohort(folder / "cohort").cases
    parts = split_parts(cases, shares=[50, 25, 25], fold=0, seed=given["split_seed"])
    return {case.id for case in parts.part(part)}


def write_dicom_image(path: Path, pixels: NDArray[Any], *, modality: str = "CR", volume: bool = False) -> None:
    """Write an image (rows, columns), in colours (rows, columns, 3), or a ``volume`` (frames, rows, columns)."""
    written_image = SimpleITK.GetImageFromArray(pixels, isVector=pixels.ndim == 3 and not volume)
    written_image.SetMetaData("0008|0060", modality)
    if modality == "CT":
        written_image.SetMetaData("0008|0016", "1.2.840.10008.5.1.4.1.1.2")
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.Execute(written_image)


def replace_image(shape: Sequence[int], part: str = "training", **more: Any) -> Prepare:
    """X-rays, of which the first is another DICOM file, see `write_dicom_image`."""
    pixels = np.random.default_rng(5).integers(0, 200, shape).astype(np.uint8)
    return spoil(lambda folder: write_dicom_image(image(folder, part=part), pixels, **more))


def written(name: str, content: Any) -> Prepare:
    """X-rays, and a file of JSON or text beside them."""
    text = content if isinstance(content, str) else json.dumps(content)
    return spoil(lambda folder: (folder / name).write_text(text))


# --- weights ------------------------------------------------------------------------------------------------------


def teacher(
    name: str = "model.pt",
    *,
    seen: str | None = None,
    without: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    **network: Any,
) -> Prepare:
    """X-rays and the weights file of a network that was never trained.

    Args:
        name: of the file.
        seen: the part whose patients it knows.
        without: names of settings that it lacks.
        settings: that differ.
        **network: arguments that differ.
    """

    def prepare(folder: Path) -> None:
        copy_x_rays(folder)
        cases = load_cohort(folder / "cohort").cases
        known = part_of(folder, seen) if seen else set()
        organs = (settings or {}).get("organs", ["pneumothorax"])
        own = {
            "organs": organs,
            "label_names": {str(value): text for value, text in packed_names(organs).items()},
            "modalities": ["CR"],
            "slice_offsets": [0],
            "image_size": [16, 16],
            "patch_size": None,
            "spacing": None,
            "normalise_per": "slice",
            "features": [],
            "split_key": "patient",
            "trained_on": patient_digests([case for case in cases if case.id in known]),
            **(settings or {}),
        }
        own = {key: value for key, value in own.items() if key not in without}
        small = {"in_channels": 1, "out_channels": len(organs), "base_channels": 4, "depth": 2}
        definition = {"_target_": "mtmed.networks.SmallUNet", **small, **network}
        save_network(folder / name, build_network(definition), own)

    return prepare


# --- the run ------------------------------------------------------------------------------------------------------


def in_3d(name: str, **more: Any) -> dict[str, Any]:
    """Options of a tiny 3D network, without those of the 2D one."""
    return {**TINY_3D[name], "image_size": None, **more}


def options(stage: str, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a tiny run on the folder's cohort; ``{}`` in a text stands for the folder, None removes an option."""
    data = {"data": str(folder / "cohort"), "store": str(folder / "store")}
    own = tiny_two_stage(stage, data)
    if stage == "run":
        own = {"dataset_dir": data["data"], "bundle_root": str(TWO_STAGE)}
    whole = {**own, "output_dir": "{}/out", **given}
    return {key: _fill(value, folder) for key, value in whole.items() if value is not None}


def _fill(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_fill(item, folder) for item in value]
    return value.replace("{}", str(folder)) if isinstance(value, str) else value
