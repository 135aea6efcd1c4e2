"""Folders of PNG slices and tables of masks, as the UW-Madison data keep them."""

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["plain_run_lengths", "save_png", "write_stack", "write_table"]

ORGANS = ("large_bowel", "small_bowel", "stomach")


def save_png(path: Path, pixels: np.ndarray, **options) -> Path:
    """Save pixels (rows, columns[, channels])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_stack(folder: Path, slices: np.ndarray, *, spacing="1.50_1.50", numbers=None, swapped=False) -> Path:
    """Write slices (slice, row, column), numbered from 1; gives the folder."""
    height, width = slices.shape[1:]
    size = f"{height}_{width}" if swapped else f"{width}_{height}"
    for index, pixels in enumerate(slices):
        number = numbers[index] if numbers else index + 1
        save_png(folder / f"slice_{number:04d}_{size}_{spacing}.png", pixels)
    return folder


def plain_run_lengths(mask: np.ndarray) -> str:
    """Run lengths by walking over the pixels."""
    runs, inside = [], False
    for position, value in enumerate((v for row in mask.tolist() for v in row), start=1):
        if value and not inside:
            runs.append([position, 0])
        if value:
            runs[-1][1] += 1
        inside = bool(value)
    return " ".join(f"{start} {length}" for start, length in runs)


def write_table(path: Path, scans: dict[str, np.ndarray], *, column="segmentation", organs=ORGANS) -> Path:
    """Write the table of masks (organ, slice, row, column) by scan, three rows per slice."""
    lines = [f"id,class,{column}"]
    for scan, masks in scans.items():
        for index in range(masks.shape[1]):
            for organ, mask in zip(organs, masks[:, index], strict=True):
                lines.append(f"{scan}_slice_{index + 1:04d},{organ},{plain_run_lengths(mask)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
