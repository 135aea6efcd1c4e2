"""Loss and validation Dice of every arm over the training."""

import csv
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.studies.smoothing import arrival, dice_window, exponential_moving_average, moving_average

__all__ = ["Curve", "curve_figure", "mean_curve", "read_loss", "read_validation_dice"]

VALIDATION_TAGS = ("validation/mean_dice", "validation/slice_dice", "validation/scan_dice")
"""Names of the trainings' key metrics that are means of Dice; a training records one of them."""

# Okabe and Ito's colours, told apart with any colour vision
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("solid", (0, (4, 1.5)), (0, (1, 1)))
_POINTS = 400  # drawn per curve


@dataclass(frozen=True)
class Curve:
    """Finite values over the iterations of one run.

    Attributes:
        steps: iterations, rising.
        values: one per step.
    """

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


def read_loss(training: Path) -> Curve:
    """Total loss of each iteration from ``losses.csv``; empty if there is none. A half-written last row is left out."""
    path = training / "losses.csv"
    if not path.is_file():
        return _curve([])
    with open(path, newline="", encoding="utf-8") as file:
        rows = itertools.takewhile(lambda row: None not in row.values(), csv.DictReader(file))
        return _curve([(float(row["iteration"]), float(row["loss"])) for row in rows])


def read_validation_dice(training: Path) -> Curve:
    """Mean validation Dice from the TensorBoard events of a run; empty if there is none."""
    sizes = {"scalars": 0, "images": 1, "tensors": 1, "histograms": 1, "compressedHistograms": 1, "audio": 1}
    events = EventAccumulator(str(training), size_guidance=sizes)
    events.Reload()
    tag = next((tag for tag in VALIDATION_TAGS if tag in events.Tags()["scalars"]), None)
    return _curve([(float(event.step), float(event.value)) for event in events.Scalars(tag)] if tag else [])


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean of curves over the iterations that all of them cover, interpolated linearly."""
    start = max(curve.steps[0] for curve in curves)
    stop = min(curve.steps[-1] for curve in curves)
    if stop < start:
        return _curve([])
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    steps = steps[(steps >= start) & (steps <= stop)]
    return Curve(steps, np.mean([np.interp(steps, curve.steps, curve.values) for curve in curves], axis=0))


def curve_figure(
    losses: Mapping[str, Sequence[Curve]],
    dice: Mapping[str, Sequence[Curve]],
    *,
    title: str,
    reference_arm: str | None = None,
) -> Figure:
    """Draw loss and validation Dice over iterations, an arm in one colour.

    Light lines are the values as they are, thin lines those of each run smoothed as the panel's heading says (see
    `mtmed.studies.smoothing`), the thick line their mean over the arm's runs; a single value is a dot. Each arm's loss
    is its own total, so that arms with other losses lie on another level. A dashed line is where the reference arm's
    thick line of the Dice ends; a diamond is where an arm's thick line first comes there.

    Args:
        losses: curves of each arm's runs; empty ones are passed over.
        dice: the same of the validation Dice.
        title: above both panels.
        reference_arm: the arm that the others shall overtake; None draws neither dashed line nor diamonds.
    """
    figure = Figure(figsize=(11, 4.4 + 0.1 * max(len(losses), len(dice))), dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    window = dice_window(len(curve.steps) for own in dice.values() for curve in own)
    last = f"mean of the last {window} validations" if window > 1 else "none, too few validations"
    for panel, curves, name, average, smoothing in (
        (panels[0], losses, "total loss", exponential_moving_average, "exponential, over a fiftieth of each run"),
        (panels[1], dice, "validation Dice", lambda values: moving_average(values, window), last),
    ):
        drawn = {arm: [curve for curve in own if len(curve.steps)] for arm, own in curves.items()}
        means: dict[str, tuple[Curve, str]] = {}
        for index, (arm, own) in enumerate(drawn.items()):
            if own:
                colour = _COLOURS[index % 7]
                means[arm] = _draw(panel, own, arm, colour, _STYLES[index // 7 % 3], average), colour
        if curves is dice and reference_arm in means:
            _draw_arrivals(panel, means, reference_arm)
        panel.set_xlabel("iteration")
        panel.set_ylabel(name)
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        if any(drawn.values()):
            panel.set_title(f"smoothing: {smoothing}", fontsize=9)
            _limit(panel, [curve for own in drawn.values() for curve in own])
            panel.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)
        else:
            panel.text(0.5, 0.5, "not recorded", ha="center", transform=panel.transAxes)
    figure.suptitle(f"{title}\nthick: mean of an arm's runs; thin: each run, smoothed; light: as recorded")
    figure.tight_layout()
    return figure


def _draw(
    panel: Any,
    curves: Sequence[Curve],
    arm: str,
    colour: str,
    style: Any,
    average: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Curve:
    """Draw the runs of an arm and return the mean of their averages."""
    averaged = [Curve(curve.steps, average(curve.values)) for curve in curves]
    for raw, own in zip(curves, averaged, strict=True):
        for curve, alpha in ((raw, 0.18), (own, 0.5)):
            kept = _thinned(curve)
            panel.plot(
                kept.steps, kept.values, color=colour, alpha=alpha, linewidth=0.8, zorder=1, marker=_marker(kept)
            )
    whole = mean_curve(averaged)
    mean = _thinned(whole)
    label = f"{arm} ({len(curves)} run{'s' if len(curves) > 1 else ''})"
    look = {"color": colour, "linestyle": style, "linewidth": 2.2, "marker": _marker(mean)}
    panel.plot(mean.steps, mean.values, label=label, zorder=2, **look)
    return whole


def _draw_arrivals(panel: Any, means: Mapping[str, tuple[Curve, str]], reference_arm: str) -> None:
    """Where the mean of the reference arm ends, and where that of each arm first comes there."""
    reference, _ = means[reference_arm]
    if not len(reference.steps):
        return
    target = float(reference.values[-1])
    label = f"final Dice of {reference_arm} (diamond: reached)"
    panel.axhline(target, color="#444444", linestyle="dashed", linewidth=1.0, zorder=1.5, label=label)
    for mean, colour in means.values():
        index = arrival(mean.values, target)
        if index is not None:
            look = {"marker": "D", "markersize": 7, "color": colour, "markeredgecolor": "white"}
            panel.plot(mean.steps[index : index + 1], mean.values[index : index + 1], linestyle="", zorder=3, **look)


def _marker(curve: Curve) -> str:
    """A line through one point would not be seen."""
    return "o" if len(curve.steps) == 1 else ""


def _thinned(curve: Curve) -> Curve:
    if len(curve.steps) <= _POINTS:
        return curve
    kept = np.unique(np.linspace(0, len(curve.steps) - 1, _POINTS).round().astype(np.int64))
    return Curve(curve.steps[kept], curve.values[kept])


def _limit(panel: Any, curves: Sequence[Curve]) -> None:
    """Single spikes shall not press everything else flat."""
    low, high = np.quantile(np.concatenate([curve.values for curve in curves]), (0.002, 0.998))
    margin = 0.05 * (high - low) or 0.05
    panel.set_ylim(low - margin, high + margin)


def _curve(points: Sequence[tuple[float, float]]) -> Curve:
    kept = np.array([point for point in points if math.isfinite(point[1])], np.float64).reshape(-1, 2)
    return Curve(kept[:, 0], kept[:, 1])
