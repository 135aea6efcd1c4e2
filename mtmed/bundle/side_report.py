"""Which kidneys the pairs are made of, for the log and as files."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtmed.data import Volume, Volumes
from mtmed.data.region import SIDES, Region, centred_start
from mtmed.distributed import rank
from mtmed.files import atomic_file
from mtmed.metrics.tables import write_rows

__all__ = ["report_sides"]

logger = logging.getLogger(__name__)

_COLUMNS = 8


def report_sides(
    training: Volumes, validation: Volumes, *, box_size: Sequence[int], output_dir: str, side_map: str = "side"
) -> None:
    """Say which sides were found, which were left out and why.

    Writes ``sides.csv`` (a row per case) and ``regions.png`` (coronal slices through the middle of the first regions,
    the superior end up and the patient's right on the left; what lies outside the outline is 0 in a region).

    Args:
        training: volumes of the training cases, with a map of sides.
        validation: volumes of the validation cases, which may be none.
        box_size: voxels of a region (H, W, D); larger kidneys are cropped to it.
        output_dir: folder of the run.
        side_map: name of the map.
    """
    if rank() != 0:
        return
    parts = {"training": training, "validation": validation}
    for part, volumes in parts.items():
        for volume in volumes:
            for remark in volume.remarks:
                logger.info("%s: %s", volume.case.key, remark)
        counts = [
            f"{sum(volume.bounds(side_map, value) is not None for volume in volumes)} {name}"
            for value, name in SIDES.items()
        ]
        logger.info("%s: %s of %d cases", part, ", ".join(counts), len(volumes))
    rows = [_row(part, volume, side_map, box_size) for part, volumes in parts.items() for volume in volumes]
    write_rows(Path(output_dir) / "sides.csv", rows)
    with atomic_file(Path(output_dir) / "regions.png") as file:
        _figure(training, side_map, box_size).savefig(file, format="png")


def _row(part: str, volume: Volume, side_map: str, box_size: Sequence[int]) -> dict[str, Any]:
    row: dict[str, Any] = {"part": part, "case": volume.case.key, "patient": volume.case.group}
    for value, name in SIDES.items():
        bounds = volume.bounds(side_map, value)
        extents = None if bounds is None else [stop - start for start, stop in zip(*bounds, strict=True)]
        row[name] = "" if extents is None else " x ".join(map(str, extents))
        row[f"{name} cropped"] = extents is not None and any(a > b for a, b in zip(extents, box_size, strict=True))
    return {**row, "remarks": "; ".join(volume.remarks)}


def _figure(volumes: Volumes, side_map: str, box_size: Sequence[int]) -> Figure:
    figure = Figure(figsize=(1.7 * _COLUMNS, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(SIDES), _COLUMNS, squeeze=False)
    for (value, name), line in zip(SIDES.items(), panels, strict=True):
        shown = [volume for volume in volumes if volume.bounds(side_map, value) is not None][:_COLUMNS]
        for panel in line:
            panel.axis("off")
        for panel, volume in zip(line, shown, strict=False):
            _draw(panel, volume, value, side_map, box_size)
            panel.set_title(f"{name}\n{volume.case.id}", fontsize=7)
    return figure


def _draw(panel: Any, volume: Volume, value: int, side_map: str, box_size: Sequence[int]) -> None:
    arrays = volume.crop(centred_start(volume, box_size, Region(side_map, value)), box_size)
    middle = box_size[1] // 2
    image, inside = (np.flip(arrays[key][0][:, middle], (0, 1)).T for key in ("image", side_map))
    aspect = float(np.linalg.norm(volume.affine[:3, 2]) / np.linalg.norm(volume.affine[:3, 0]))
    panel.imshow(image, cmap="gray", aspect=aspect)
    if (inside == value).any() and not (inside == value).all():
        panel.contour(inside == value, levels=[0.5], colors="tab:orange", linewidths=0.8)
