"""Pictures of a case: image, label and prediction in three orthogonal planes, true to scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mtmed.files import atomic_file

__all__ = ["label_colours", "overlay_figure", "save_overlay", "tinted"]

# plane: name, axis that is cut, (horizontal, vertical) axis, letters at (left, right, bottom, top); arrays are RAS
_PLANES = (
    ("axial", 2, (0, 1), "RLPA"),
    ("coronal", 1, (0, 2), "RLIS"),
    ("sagittal", 0, (1, 2), "APIS"),
)
_HEIGHT = 3.2  # of the tallest panel, inches


def overlay_figure(
    image: NDArray[Any],
    label: NDArray[Any] | None,
    prediction: NDArray[Any],
    spacing: Sequence[float],
    label_names: Mapping[int | str, str],
    *,
    title: str = "",
    window: tuple[float, float] | None = None,
) -> Figure:
    """Draw image, label and prediction side by side, one row per plane; of a single slice that plane alone.

    Each plane is the one with most foreground of the label (of the prediction, if the label has none). Voxels are
    drawn in millimetres, so that anisotropic volumes look right. Radiological convention: the patient's right
    is on the left
    of the picture (axial, coronal), anterior on the left (sagittal); letters at the edges say so.

    Args:
        image: voxels H W D in RAS order.
        label: reference label map of the same shape and order, None if there is none.
        prediction: predicted label map of the same shape and order.
        spacing: distance of neighbouring voxels along each axis, mm.
        label_names: name of each label value; 0 is background.
        title: first line of the picture, for example the case and its scores.
        window: lowest and highest value shown, black to white; None takes the 0.5 and 99.5 % quantiles.

    Raises:
        ValueError: if shapes differ or the volume is not 3D.
    """
    maps = [("prediction", prediction)] if label is None else [("label", label), ("prediction", prediction)]
    if image.ndim != 3 or any(one.shape != image.shape for _, one in maps):
        raise ValueError(f"Volumes must be 3D and of one shape, got {[image.shape, *(one.shape for _, one in maps)]}.")
    foreground = next((one > 0 for _, one in maps if one.any()), np.zeros(image.shape, bool))
    cuts = [_largest_cut(foreground, axis) for axis in range(3)]
    low, high = window or (float(value) for value in np.quantile(image, (0.005, 0.995)))
    lengths = [side * step for side, step in zip(image.shape, spacing, strict=True)]
    planes = [plane for plane in _PLANES if min(image.shape[axis] for axis in plane[2]) > 1] or _PLANES
    heights = [lengths[vertical] for _, _, (_, vertical), _ in planes]
    widest = max(lengths[horizontal] for _, _, (horizontal, _), _ in planes)
    inch = _HEIGHT / max(*heights, widest)
    columns = 1 + len(maps)
    lines = 2 + title.count("\n") if title else 1
    width, height = columns * (widest * inch + 0.2), sum(heights) * inch + 0.85 + 0.16 * lines
    figure = Figure(figsize=(width, height), dpi=110, facecolor="black")
    FigureCanvasAgg(figure)
    grid = {"height_ratios": heights, "hspace": 0.06, "wspace": 0.04}
    axes = figure.subplots(len(planes), columns, squeeze=False, gridspec_kw=grid)
    colours = label_colours(label_names)
    for row, (plane, cut, (horizontal, vertical), letters) in enumerate(planes):
        place: list[Any] = [slice(None)] * 3
        place[cut] = cuts[cut]
        grey = np.clip((_turned(image[tuple(place)]) - low) / max(high - low, 1e-12), 0, 1)
        extent = (0.0, lengths[horizontal], 0.0, lengths[vertical])
        for column, (name, labels) in enumerate([("image", None), *maps]):
            panel = axes[row][column]
            picture = np.repeat(np.nan_to_num(grey)[..., None], 3, axis=-1)
            if labels is not None:
                picture = tinted(picture, _turned(labels[tuple(place)]), colours)
            panel.imshow(picture, origin="lower", extent=extent, aspect="equal", interpolation="nearest")
            panel.set_axis_off()
            _letter_edges(panel, letters)
            if row == 0:
                panel.set_title(name, color="white", fontsize=9)
            if column == 0:
                panel.text(0.02, 0.02, f"{plane} {cuts[cut]}", color="white", fontsize=7, transform=panel.transAxes)
    _legend(figure, colours, label_names, [one for _, one in maps])
    heading = f"{title}\n" if title else ""
    figure.suptitle(
        f"{heading}radiological: patient's right is on the left", color="white", fontsize=9, y=1 - 0.08 / height
    )
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.35 / height, top=1 - (0.35 + 0.16 * lines) / height)
    return figure


def save_overlay(path: str | Path, *arguments: Any, **options: Any) -> None:
    """Draw `overlay_figure` into a PNG.

    Args:
        path: file to write.
        arguments: of `overlay_figure`.
        options: of `overlay_figure`.

    Raises:
        InputError: if the file cannot be written.
    """
    figure = overlay_figure(*arguments, **options)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})


def _largest_cut(foreground: NDArray[np.bool_], axis: int) -> int:
    counts = foreground.sum(axis=tuple(other for other in range(3) if other != axis))
    return int(np.argmax(counts)) if counts.any() else foreground.shape[axis] // 2


def _turned(plane: NDArray[Any]) -> NDArray[Any]:
    """From (horizontal, vertical), both growing to R, A or S, to rows from below and columns from R or A."""
    return plane.T[:, ::-1]


def label_colours(label_names: Mapping[int | str, str]) -> dict[int, tuple[float, float, float]]:
    """Red, green and blue in [0, 1] of each label value but 0, in the order of the values."""
    values = sorted(int(value) for value in label_names if int(value) != 0)
    palette = matplotlib.colormaps["tab10" if len(values) <= 10 else "tab20"](range(10 if len(values) <= 10 else 20))
    # red first: the palette's blue is hard to see on dark grey
    order = [3, 2, 0, 1, 4, 5, 6, 8, 9, 7] if len(values) <= 10 else list(range(20))
    return {value: to_rgb(palette[order[index % len(order)]]) for index, value in enumerate(values)}


def tinted(
    picture: NDArray[Any], labels: NDArray[Any], colours: Mapping[int, tuple[float, float, float]]
) -> NDArray[Any]:
    """Lay the colours of labels over a picture, and draw their inner edges in full colour.

    Args:
        picture: H W 3 in [0, 1].
        labels: label values H W.
        colours: of each label value, see `label_colours`; others are left as they are.
    """
    picture = picture.copy()
    for value, colour in colours.items():
        mask = labels == value
        if not mask.any():
            continue
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        picture[mask] = 0.65 * picture[mask] + 0.35 * np.asarray(colour)
        picture[mask & ~inner] = colour
    return picture


def _letter_edges(panel: Any, letters: str) -> None:
    for letter, (x, y) in zip(letters, ((0.01, 0.5), (0.99, 0.5), (0.5, 0.01), (0.5, 0.99)), strict=True):
        sides = {0.01: ("left", "bottom"), 0.5: ("center", "center"), 0.99: ("right", "top")}
        panel.text(x, y, letter, color="gold", fontsize=7, ha=sides[x][0], va=sides[y][1], transform=panel.transAxes)


def _legend(
    figure: Figure,
    colours: Mapping[int, tuple[float, float, float]],
    label_names: Mapping[int | str, str],
    maps: Sequence[NDArray[Any]],
) -> None:
    names = {int(value): name for value, name in label_names.items()}
    present = sorted({int(value) for one in maps for value in np.unique(one)} & set(colours))
    handles = [Patch(color=colours[value], label=names[value]) for value in present]
    if handles:
        figure.legend(
            handles=handles,
            loc="lower center",
            ncol=min(len(handles), 6),
            fontsize=7,
            frameon=False,
            labelcolor="white",
        )
