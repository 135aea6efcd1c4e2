"""Cohorts of abdominal slices and weights files with something wrong or odd about them."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gi_tract_runs import ORGANS, scan_paths, tiny_options, write_abdomens
from monai.networks.nets import resnet18
from PIL import Image

from mtmed.bundle import patient_digests
from mtmed.data import load_cohort
from mtmed.networks import build_network, save_network
from mtmed.organ_masks import packed_names

__all__ = [
    "GOOD",
    "Prepare",
    "change_manifest",
    "change_table",
    "drop_slices",
    "of_mask",
    "options",
    "other_network",
    "repaint",
    "scans",
    "several",
    "slices",
    "spoil",
    "table",
    "trained",
    "with_name",
]

Prepare = Callable[[Path], Any]
Rows = list[dict[str, str]]


# --- parts of a good cohort ---------------------------------------------------------------------------------------


def table(folder: Path) -> Path:
    """The table of masks."""
    return folder / "cohort" / "train.csv"


def scans(folder: Path) -> list[Path]:
    """Folders of slices, in order of patient and day."""
    return list(scan_paths(folder / "cohort").values())


def slices(folder: Path, scan: int = 0) -> list[Path]:
    """Slices of a scan, in order."""
    return sorted(scans(folder)[scan].glob("*.png"))


def spoil(change: Prepare) -> Prepare:
    """A good cohort with one thing changed."""

    def prepare(folder: Path) -> None:
        write_abdomens(folder / "cohort")
        change(folder)

    return prepare


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "cohort" / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_table(folder: Path, change: Callable[[Rows], Rows]) -> None:
    """Write the table anew from its rows, changed."""
    with table(folder).open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table(folder).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(change(rows))


def of_mask(text: str) -> Prepare:
    """A good cohort but for the run lengths of the first mask."""
    return spoil(lambda folder: change_table(folder, lambda rows: [{**rows[0], "segmentation": text}, *rows[1:]]))


def with_name(path: Path, *, width: int | None = None, height: int | None = None, spacing: str | None = None) -> Path:
    """Rename a slice: what its name says of size and spacing."""
    _, number, old_width, old_height, x, y = path.stem.split("_")
    parts = ("slice", number, width or old_width, height or old_height, spacing or x, spacing or y)
    return path.rename(path.with_name("_".join(map(str, parts)) + ".png"))


def repaint(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the pixels of a slice."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    Image.fromarray(change(pixels)).save(path)


def drop_slices(folder: Path, scan: int, places: slice) -> None:
    """Remove slices of a scan, and their rows."""
    lost = set()
    for path in slices(folder, scan)[places]:
        number = path.stem.split("_")[1]
        lost.add(f"{path.parents[1].name}_slice_{number}")
        path.unlink()
    change_table(folder, lambda rows: [row for row in rows if row["id"] not in lost])


GOOD = spoil(lambda folder: None)


# --- weights ------------------------------------------------------------------------------------------------------


def trained(
    name: str = "model.pt",
    *,
    seen: int = 0,
    keep: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    **network: Any,
) -> Prepare:
    """A good cohort and the weights file of a network that was never trained.

    Args:
        name: of the file.
        seen: how many of the scans it knows.
        keep: names of its settings; None for all.
        settings: that differ.
        **network: arguments that differ.
    """

    def prepare(folder: Path) -> None:
        if not (folder / "cohort").exists():
            write_abdomens(folder / "cohort")
        known = load_cohort(folder / "cohort").cases[:seen]
        own = {
            "organs": list(ORGANS),
            "label_names": {str(value): text for value, text in packed_names(ORGANS).items()},
            "modalities": ["MR"],
            "slice_offsets": [0],
            "image_size": [16, 16],
            "normalise_per": "slice",
            "features": [],
            "trained_on": patient_digests(known),
            **(settings or {}),
        }
        own = {key: value for key, value in own.items() if keep is None or key in keep}
        small = {"in_channels": 1, "out_channels": len(ORGANS), "base_channels": 4, "depth": 2}
        definition = {"_target_": "mtmed.networks.SmallUNet", **small, **network}
        save_network(folder / name, build_network(definition), own)

    return prepare


def several(*files: Prepare) -> Prepare:
    """All of these."""

    def prepare(folder: Path) -> None:
        for one in files:
            one(folder)

    return prepare


def other_network(folder: Path) -> None:
    """A good cohort, and weights of a ResNet18 under torchvision's names."""
    write_abdomens(folder / "cohort")
    torch.save(resnet18(spatial_dims=2, n_input_channels=3).state_dict(), folder / "resnet.pth")


# --- the run ------------------------------------------------------------------------------------------------------


def options(stage: str, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a tiny run on the folder's cohort; ``{}`` in a text stands for the folder."""
    data = {"data": str(folder / "cohort"), "store": str(folder / "store")}
    whole = tiny_options(stage, data, **{"output_dir": "{}/out", **given})
    return {key: _fill(value, folder) for key, value in whole.items()}


def _fill(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_fill(item, folder) for item in value]
    return value.replace("{}", str(folder)) if isinstance(value, str) else value
