"""Rows of cases x columns of arms: one slice of each case with the outlines of reference and predictions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["CaseRow", "case_figure", "outline", "zoom_box"]

_REFERENCE = "#F0E442"
# Okabe and Ito's colours, told apart with any colour vision; the reference has the yellow
_PREDICTIONS = ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
_STYLES = ("solid", (0, (3, 1.5)), (0, (1, 1)))
_WIDTH = 2.6  # of a panel, inches
_TITLE = 0.42  # above a panel, inches
_ENTRY = (1.7, 0.17)  # width and height of an entry of the legend, inches
_DARK, _FRAME = 0.02, 5.0  # share of the window that counts as black, and what is left of the black around, mm
_MARGIN, _SMALLEST = 8.0, 40.0  # around what is zoomed onto, and side of the box, mm


@dataclass(frozen=True)
class CaseRow:
    """What one row shows. All planes are axial slices X Y in RAS order, on one grid.

    Attributes:
        heading: above the plain image.
        image: image values.
        reference: organs of each voxel, integers: bit k is set where the k-th of the picture's organs is, from k = 0.
        predictions: the same of each arm that has one.
        dice: of each arm, in words.
        spacing: distance of neighbouring voxels along X and Y, mm.
        window: lowest and highest value shown, black to white.
        single: whether it is an image of its own, such as an X-ray, whose file does not say how the patient lay.
    """

    heading: str
    image: NDArray[Any]
    reference: NDArray[Any]
    predictions: Mapping[str, NDArray[Any]]
    dice: Mapping[str, str]
    spacing: tuple[float, float]
    window: tuple[float, float]
    single: bool = False


def case_figure(
    rows: Sequence[CaseRow], arms: Sequence[str], organs: Sequence[str], *, title: str, zoom: bool = False
) -> Figure:
    """Draw the plain image, and for each arm the image with the outlines of reference and prediction.

    Outlines run along the voxels' edges. Pixels are drawn in millimetres. Radiological convention: the patient's right
    is on the left of the picture, anterior is up.

    Args:
        rows: the cases.
        arms: columns, in order; an arm without a prediction of the case gets an empty panel.
        organs: name of each organ, in order.
        title: first line of the picture.
        zoom: show only the surroundings of what the arms disagree about most (`zoom_box`).

    Raises:
        ValueError: if there is no row or the planes of a row differ in shape.
    """
    if not rows:
        raise ValueError("There is no case to draw.")
    boxes = [_shown_box(row, zoom=zoom) for row in rows]
    heights = [_WIDTH * (box[3] - box[2]) / (box[1] - box[0]) + _TITLE for box in boxes]
    width = (1 + len(arms)) * _WIDTH
    handles = _handles(organs, rows)
    columns = max(1, min(len(handles), int(width / _ENTRY[0])))
    height = sum(heights) + 0.45 + _ENTRY[1] * math.ceil(len(handles) / columns)
    figure = Figure(figsize=(width, height), dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    top = height - 0.28
    for row, box, tall in zip(rows, boxes, heights, strict=True):
        for column, arm in enumerate([None, *arms]):
            place = (column * _WIDTH + 0.03, top - tall, _WIDTH - 0.06, tall - _TITLE)
            panel = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
            _draw(panel, row, arm, box, len(organs))
        top -= tall
    zoomed = ", zoomed in" if zoom else ""
    sides = "as stored" if all(row.single for row in rows) else "radiological: patient's right is on the left"
    figure.suptitle(f"{title}{zoomed}; {sides}", color="white", fontsize=9, y=1 - 0.1 / height)
    figure.legend(
        handles=handles,
        loc="lower center",
        ncol=columns,
        fontsize=7,
        frameon=False,
        labelcolor="white",
        borderaxespad=0,
    )
    return figure


def outline(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Voxel edges between a mask and what is not in it.

    Args:
        mask: mask X Y.
        spacing: of the voxels along X and Y, mm.

    Returns:
        Line segments N x 2 ends x (X, Y), mm from the outer corner of voxel (0, 0).
    """
    padded = np.pad(mask, 1)
    x, y = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    across = np.stack([np.stack([x, y], -1), np.stack([x, y + 1], -1)], 1)
    x, y = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    along = np.stack([np.stack([x, y], -1), np.stack([x + 1, y], -1)], 1)
    return np.concatenate([across, along]) * np.asarray(spacing, np.float64)


def zoom_box(row: CaseRow) -> tuple[float, float, float, float]:
    """Square around the connected structure that the arms get most wrong, of at least 40 mm if the image allows.

    Structures are the 8-connected components of what the reference or an arm outlines as one organ; of the reference
    alone, if the square would be larger than half of the image because an arm outlines nearly everything. The one with
    most wrong voxels over all arms is taken, among equals the largest. The whole image, if nothing is outlined.

    Returns:
        Lowest and highest X, lowest and highest Y, mm.
    """
    sides = [count * step for count, step in zip(row.image.shape, row.spacing, strict=True)]
    square = _square_around(row, (row.reference, *row.predictions.values()))
    if square is not None and square[1] > max(_SMALLEST, min(sides) / 2):
        square = _square_around(row, (row.reference,)) or square
    if square is None:
        return 0.0, sides[0], 0.0, sides[1]
    side = min(square[1], *sides)
    starts = [
        float(np.clip(middle - side / 2, 0, whole - side)) for middle, whole in zip(square[0], sides, strict=True)
    ]
    return starts[0], starts[0] + side, starts[1], starts[1] + side


def _square_around(row: CaseRow, planes: Sequence[NDArray[Any]]) -> tuple[tuple[float, float], float] | None:
    """Middle and side in mm of the square around the most wrong structure of some planes; None without structures."""
    found: list[tuple[int, int, tuple[slice, slice]]] = []
    for organ in range(max(int(plane.max()) for plane in planes).bit_length()):
        components, _ = ndimage.label(np.any([_is(plane, organ) for plane in planes], axis=0), np.ones((3, 3)))
        wrong = np.zeros(row.reference.shape, np.int64)
        for plane in row.predictions.values():
            wrong += _is(plane, organ) != _is(row.reference, organ)
        for number, place in enumerate(ndimage.find_objects(components), start=1):
            own = components[place] == number
            found.append((int((own * wrong[place]).sum()), int(own.sum()), place))
    if not found:
        return None
    chosen = max(found, key=lambda structure: structure[:2])[2]
    ends = [(part.start * step, part.stop * step) for part, step in zip(chosen, row.spacing, strict=True)]
    side = max(_SMALLEST, *(high - low + 2 * _MARGIN for low, high in ends))
    return ((ends[0][0] + ends[0][1]) / 2, (ends[1][0] + ends[1][1]) / 2), side


def _shown_box(row: CaseRow, *, zoom: bool) -> tuple[float, float, float, float]:
    """What a panel shows: the zoom, or the image without the black around it."""
    shapes = {plane.shape for plane in (row.image, row.reference, *row.predictions.values())}
    if len(shapes) > 1 or row.image.ndim != 2:
        raise ValueError(f"Planes must be 2D and of one shape, got {shapes}.")
    if zoom:
        return zoom_box(row)
    low, high = row.window
    content = row.image > low + _DARK * (high - low)
    for labels in (row.reference, *row.predictions.values()):
        content = content | (labels > 0)
    sides = [count * step for count, step in zip(row.image.shape, row.spacing, strict=True)]
    if not content.any():
        return 0.0, sides[0], 0.0, sides[1]
    ends = [
        (max(0.0, float(places.min() * step - _FRAME)), min(side, float((places.max() + 1) * step + _FRAME)))
        for places, step, side in zip(np.nonzero(content), row.spacing, sides, strict=True)
    ]
    return *ends[0], *ends[1]


def _draw(panel: Any, row: CaseRow, arm: str | None, box: tuple[float, float, float, float], organs: int) -> None:
    panel.set_facecolor("black")
    panel.set_xticks([])
    panel.set_yticks([])
    heading = row.heading if arm is None else f"{arm}\n{row.dice.get(arm, 'not scored')}"
    panel.set_title(heading, color="white", fontsize=8, pad=3)
    # X grows to the patient's right, which is drawn on the left
    panel.set_xlim(box[1], box[0])
    panel.set_ylim(box[2], box[3])
    panel.set_aspect("equal")
    if arm is not None and arm not in row.predictions:
        panel.text(0.5, 0.5, "no prediction", color="white", fontsize=8, ha="center", transform=panel.transAxes)
        return
    low, high = row.window
    extent = (0.0, row.image.shape[0] * row.spacing[0], 0.0, row.image.shape[1] * row.spacing[1])
    panel.imshow(
        row.image.T,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1e-6),
        origin="lower",
        extent=extent,
        aspect="equal",
        interpolation="nearest",
    )
    panel.set_xlim(box[1], box[0])
    panel.set_ylim(box[2], box[3])
    letters = (
        ("R", 0.01, 0.5, "left", "center"),
        ("L", 0.99, 0.5, "right", "center"),
        ("P", 0.5, 0.01, "center", "bottom"),
        ("A", 0.5, 0.99, "center", "top"),
    )
    for letter, x, y, horizontal, vertical in () if row.single else letters:
        panel.text(x, y, letter, color="gold", fontsize=7, ha=horizontal, va=vertical, transform=panel.transAxes)
    if arm is None:
        return
    for organ in range(organs):
        own = outline(_is(row.reference, organ), row.spacing)
        panel.add_collection(LineCollection(list(own), colors=_REFERENCE, linewidths=1.8))
    for organ in range(organs):
        own = outline(_is(row.predictions[arm], organ), row.spacing)
        panel.add_collection(LineCollection(list(own), linewidths=0.9, **_look(organ)))


def _is(plane: NDArray[Any], organ: int) -> NDArray[np.bool_]:
    """Voxels of an organ."""
    return (plane >> organ & 1) > 0


def _look(organ: int) -> dict[str, Any]:
    turn, place = divmod(organ, len(_PREDICTIONS))
    return {"colors": _PREDICTIONS[place], "linestyles": [_STYLES[turn % len(_STYLES)]]}


def _handles(organs: Sequence[str], rows: Sequence[CaseRow]) -> list[Line2D]:
    """Entries of the legend, only of organs that are seen."""
    seen = 0
    for row in rows:
        for plane in row.predictions.values():
            seen |= int(np.bitwise_or.reduce(plane, axis=None))
    handles = [Line2D([], [], color=_REFERENCE, linewidth=1.8, label="reference")]
    for number, organ in enumerate(organs):
        look = _look(number)
        label = "prediction" if len(organs) == 1 else f"predicted {organ}"
        if seen >> number & 1 or len(organs) == 1:
            handles.append(Line2D([], [], color=look["colors"], linestyle=look["linestyles"][0], label=label))
    return handles
