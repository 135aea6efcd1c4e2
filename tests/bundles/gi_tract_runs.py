"""A tiny cohort of abdomens in the layout of UW-Madison, and settings so small that the bundle runs on it in seconds.

The fixtures that use them (`abdomens`, `gi_tract_config`, `gi_tract_options`, `train_gi_tract`, `trained_gi_tract`) are
in `conftest.py`.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from running import run_in_process

from mtmed.transforms.run_length import encode_run_lengths

__all__ = [
    "DAYS",
    "GI_TRACT",
    "ORGANS",
    "PIXEL",
    "SHAPE",
    "SLICE_DISTANCE",
    "TINY_GI_TRACT",
    "VARIANTS",
    "case_and_day",
    "paint_abdomen",
    "run_gi_tract",
    "scan_paths",
    "tiny_options",
    "write_abdomens",
    "write_slices",
]

GI_TRACT = Path(__file__).parents[2] / "bundles" / "gi_tract"
ORGANS = ("large_bowel", "small_bowel", "stomach")
SHAPE = (8, 20, 24)  # slices to the head, rows to the back, columns to the patient's left
PIXEL = 3.5  # mm
SLICE_DISTANCE = 3.0  # mm, which the format does not say
DAYS = {101: (5,), 102: (0, 9), 103: (2,), 104: (7, 12), 105: (3,)}  # of each patient
TINY_GI_TRACT: dict[str, Any] = {
    "device": "cpu",
    # torch's bfloat16 gradients on CPU differ between runs for feature maps of a few voxels
    "precision": "float32",
    "image_size": [16, 16],
    "network_defs#small_unet#base_channels": 4,
    "foreground_prior": 0.5,  # a few steps from there show more of what an input changes
    "network_defs#small_unet#depth": 2,
    # three parts of five patients
    "shares": [60, 20, 20],
    "epochs": 2,
    "iterations_per_epoch": 2,
    # a scan of eight slices gives three pairs
    "batch_size": 4,
    "queue_size": 16,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "film": {"film": True},
    "position": {"auxiliary": "position"},
    "contrast": {"auxiliary": "contrast"},
    "momentum_contrast": {"auxiliary": "momentum_contrast"},
}


def paint_abdomen(seed: int, day: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Grey values D H W and masks of the organs K D H W of a patient on a day.

    The stomach is the upper one, on the patient's left; both bowels overlap; the first and the last slice show none.
    """
    patient = np.random.default_rng([11, seed])
    noise = np.random.default_rng([11, seed, day])
    z, y, x = (axis.astype(float) for axis in np.indices(SHAPE))
    body = ((x - 11.5) / 11) ** 2 + ((y - 9.5) / 9) ** 2 < 1
    grey = np.where(body, 300 + noise.normal(0, 15, SHAPE), 20 + noise.uniform(0, 10, SHAPE))
    # centre and radius in slices, rows, columns
    places = [
        ((2.8, 10.0, 8.0), (2.4, 5.0, 3.5)),
        ((3.0, 11.0, 12.0), (2.6, 3.5, 4.0)),
        ((5.0, 7.0, 16.0), (1.8, 4, 3.5)),
    ]
    masks = np.zeros((len(ORGANS), *SHAPE), bool)
    for number, (centre, radius) in enumerate(places):
        middle = np.array(centre) + patient.uniform(-0.4, 0.4, 3) + noise.uniform(-0.2, 0.2, 3)
        distance = sum(((axis - m) / r) ** 2 for axis, m, r in zip((z, y, x), middle, radius, strict=True))
        masks[number] = (distance < 1) & body & (z > 0) & (z < SHAPE[0] - 1)
        grey[masks[number]] += 200 * (number + 1) + noise.normal(0, 15, int(masks[number].sum()))
    return np.rint(grey).clip(0).astype(np.uint16), masks


def case_and_day(scan: str) -> tuple[int, int]:
    """Numbers of patient and day in the name of a scan."""
    case, day = re.findall(r"\d+", scan)
    return int(case), int(day)


def scan_paths(folder: str | Path) -> dict[str, Path]:
    """Folders of slices of the labelled scans, by the name of the scan."""
    paths = sorted(Path(folder).glob("train/case*/case*_day*/scans"))
    return {path.parent.name: path for path in paths}


def write_slices(folder: Path, grey: NDArray[Any], *, pixel: float = PIXEL) -> None:
    """Write slices D H W as 16-bit PNG files named as in UW-Madison."""
    folder.mkdir(parents=True)
    _, height, width = grey.shape
    for number, image in enumerate(grey, 1):
        name = f"slice_{number:04d}_{width}_{height}_{pixel:.2f}_{pixel:.2f}.png"
        Image.fromarray(np.ascontiguousarray(image.astype(np.uint16))).save(folder / name)


def write_abdomens(
    folder: Path,
    *,
    days: Mapping[int, Sequence[int]] | None = None,
    hidden: Sequence[int] = (301,),
    name: str = "Toy_GI",
    seed: int = 0,
    parts: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Write a cohort with its `dataset.json` and `train.csv`, each patient another one; returns the folder.

    Slices are ``train/case101/case101_day5/scans/slice_0001_24_20_3.50_3.50.png`` and so on.

    Args:
        folder: made by this.
        days: of each labelled patient, by number; `DAYS` by default.
        hidden: patients without labels, of one day, under ``test/``.
        name: of the data set.
        seed: another one makes other patients.
        parts: of a scan, by its name, for the manifest.
        more: further keys of `dataset.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    masks_of: list[tuple[str, str, str]] = []
    visits = [("train", case, day) for case, own in (DAYS if days is None else days).items() for day in own]
    for part, case, day in [*visits, *(("test", case, 1) for case in hidden)]:
        scan = f"case{case}_day{day}"
        grey, masks = paint_abdomen(1000 * seed + case, day)
        write_slices(folder / part / f"case{case}" / scan / "scans", grey)
        row = {
            "image": f"./{part}/case{case}/{scan}/scans",
            "id": scan,
            "patient": f"case{case}",
            "visit": f"day{day}",
            "metadata": {"case_number": case, "day_number": day},
        }
        if part == "train":
            row |= {"label": "./train.csv", **({"part": parts[scan]} if parts else {})}
            for index in range(len(grey)):
                identity = f"{scan}_slice_{index + 1:04d}"
                masks_of += [(identity, o, encode_run_lengths(masks[k, index])) for k, o in enumerate(ORGANS)]
        rows[part].append(row)
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("id", "class", "segmentation"), *masks_of])
    content = {
        "name": name,
        "modality": {"0": "MR"},
        "labels": {"0": "background", **{str(1 << bit): organ for bit, organ in enumerate(ORGANS)}},
        "overlapping": True,
        "training": rows["train"],
        "test": rows["test"],
        **(more or {}),
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return str(folder)


def tiny_options(stage: str, data: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Overrides that make a stage tiny.

    Args:
        stage: ``train``, ``inference`` or ``evaluate``.
        data: folders ``data`` and ``store``.
        **more: overrides on top.
    """
    if stage == "train":
        return {**TINY_GI_TRACT, "dataset_dir": data["data"], "store_dir": data["store"], **more}
    own = {"shares": TINY_GI_TRACT["shares"]} if stage == "evaluate" else {}
    return {"device": "cpu", "dataset_dir": data["data"], **own, **more}


def run_gi_tract(stage: str, given: Mapping[str, Any], *overlays: str) -> Path:
    """Run a stage of the bundle in this process; returns its folder."""
    return run_in_process(stage, given, *overlays, bundle=GI_TRACT)
