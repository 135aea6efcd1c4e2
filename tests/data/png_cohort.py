"""A small cohort of PNG slices and a table of masks, for tests of what is wrong with one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = [
    "HEIGHT",
    "ORGANS",
    "SCANS",
    "SLICES",
    "WIDTH",
    "rewrite_table",
    "scan_folder",
    "slice_path",
    "write_png_cohort",
]

ORGANS = ("large_bowel", "small_bowel", "stomach")
SCANS = ("case201_day1", "case201_day9", "case202_day3")
WIDTH, HEIGHT, SLICES = 7, 5, 4


def scan_folder(folder: Path, scan: str) -> Path:
    return folder / "train" / scan.split("_")[0] / scan / "scans"


def slice_path(folder: Path, scan: str, number: int) -> Path:
    return scan_folder(folder, scan) / f"slice_{number:04d}_{WIDTH}_{HEIGHT}_1.50_1.63.png"


def write_png_cohort(folder: Path, **changes: Any) -> Path:
    """Three scans of two patients, four slices each; the second slice has masks, of which two overlap."""
    table, rows = ["id,class,segmentation"], []
    for index, scan in enumerate(SCANS):
        scan_folder(folder, scan).mkdir(parents=True)
        for number in range(1, SLICES + 1):
            pixels = np.random.default_rng([index, number]).integers(0, 2000, (HEIGHT, WIDTH)).astype(np.uint16)
            Image.fromarray(pixels).save(slice_path(folder, scan, number))
            runs = {"large_bowel": "1 3 10 2", "small_bowel": "3 2", "stomach": "35 1"} if number == 2 else {}
            table += [f"{scan}_slice_{number:04d},{organ},{runs.get(organ, '')}" for organ in ORGANS]
        case, day = (int(part.removeprefix("case").removeprefix("day")) for part in scan.split("_"))
        rows.append(
            {
                "image": f"train/case{case}/{scan}/scans",
                "label": "train.csv",
                "id": scan,
                "patient": f"case{case}",
                "metadata": {"case_number": case, "day_number": day},
            }
        )
    (folder / "train.csv").write_text("\n".join(table) + "\n")
    content = {
        "name": "gut",
        "modality": {"0": "MR"},
        "labels": {"0": "background", "1": "large_bowel", "2": "small_bowel", "4": "stomach"},
        "overlapping": True,
        "training": rows,
    }
    (folder / "dataset.json").write_text(json.dumps(content | changes))
    return folder


def rewrite_table(folder: Path, old: str, new: str) -> None:
    """Replace a text of the table, which must occur."""
    text = (folder / "train.csv").read_text()
    assert old in text
    (folder / "train.csv").write_text(text.replace(old, new))
