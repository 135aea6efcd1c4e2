"""The pictures of a study: which cases are shown, and the files."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mtmed.files import atomic_file
from mtmed.studies.case_figure import CaseRow, case_figure
from mtmed.studies.case_slice import case_row
from mtmed.studies.curves import curve_figure, read_loss
from mtmed.studies.dice_curves import DiceCurves, read_dice_curves
from mtmed.studies.results import CaseFiles, Result, read_case_files, read_scores, score_columns

__all__ = ["Picture", "draw_pictures"]

logger = logging.getLogger(__name__)

_LONGEST_KEY = 24  # characters


@dataclass(frozen=True)
class Picture:
    """A picture that was written, or why it was not.

    Attributes:
        path: the PNG; None if it could not be drawn.
        caption: what it shows, or why it could not be drawn.
    """

    path: Path | None
    caption: str


@dataclass(frozen=True)
class _Scored:
    """A case as one arm scored it: its mean Dice over organs and its files."""

    dice: float
    files: CaseFiles


def draw_pictures(
    results: Sequence[Result],
    output_dir: Path,
    *,
    organs: Sequence[str] | None = None,
    reference_arm: str | None = None,
    dice: DiceCurves | None = None,
) -> list[Picture]:
    """Draw, for each label fraction, the curves of all finished runs and three cases in all arms.

    Writes ``curves_<fraction>.png``, ``cases_<fraction>.png`` and the same zoomed in, ``cases_<fraction>_zoom.png``.
    The cases are the worst, the median and the best of the reference arm by their mean Dice over organs, each from the
    arm's first seed and fold that scored it; where possible those that all arms have. The slice is the axial one with
    most of the reference (of the predictions, if the reference is empty).

    Args:
        results: all runs of the study; those that are not finished are passed over.
        output_dir: folder for the files.
        organs: organs to outline; None for all.
        reference_arm: the arm that cases are chosen by and whose final Dice is marked; None for the first arm with
            scores, and no mark.
        dice: validation Dice of the finished runs; None reads it.

    Returns:
        The pictures; one that cannot be drawn, for example because a file is damaged, is one without a path. Nothing
        to draw is no error.
    """
    dice = dice or read_dice_curves(results)
    pictures: list[Picture] = []
    for fraction in sorted({result.fraction for result in results}):
        own = [result for result in results if result.fraction == fraction]
        own.sort(key=lambda run: (run.seed, isinstance(run.fold, str), run.fold))
        # in the order of the study, not of the sorted runs
        arms = [arm for arm in dict.fromkeys(run.arm for run in results) if any(run.arm == arm for run in own)]
        runs = {arm: [run for run in own if run.arm == arm and run.state == "finished"] for arm in arms}
        pictures += _tried(_draw_curves, "curves", fraction, runs, output_dir, dice, reference_arm)
        pictures += _tried(_draw_cases, "cases", fraction, runs, output_dir, organs, reference_arm)
    return pictures


def _tried(draw: Callable[..., list[Picture]], kind: str, fraction: float, *arguments: Any) -> list[Picture]:
    """Draw; the report on hours of computing is not lost over a picture, whatever is the matter with a file."""
    try:
        return draw(fraction, *arguments)
    except Exception as error:
        return [Picture(None, _not_drawn(f"{kind} with {fraction:g} % of the labels", error))]


def _not_drawn(what: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    logger.warning("The %s cannot be drawn: %s", what, reason)
    return f"{what}: cannot be drawn ({reason})"


def _draw_curves(
    fraction: float,
    runs: Mapping[str, Sequence[Result]],
    output_dir: Path,
    dice: DiceCurves,
    reference_arm: str | None,
) -> list[Picture]:
    losses = {arm: [read_loss(run.training) for run in own if run.training is not None] for arm, own in runs.items()}
    validated = {arm: dice.of(arm, fraction) for arm in runs}
    if not any(len(curve.steps) for curves in (losses, validated) for own in curves.values() for curve in own):
        return []
    title = f"Training with {fraction:g} % of the labels"
    figure = curve_figure(losses, validated, title=title, reference_arm=reference_arm)
    return [_save(figure, output_dir / f"curves_{fraction:g}.png", title)]


def _draw_cases(
    fraction: float,
    runs: Mapping[str, Sequence[Result]],
    output_dir: Path,
    organs: Sequence[str] | None,
    reference_arm: str | None,
) -> list[Picture]:
    scored = {arm: _scored_cases(own, organs) for arm, own in runs.items()}
    shown = _chosen(scored, reference_arm)
    if not shown:
        logger.info("No case to draw with %g %% of the labels: no run has scores and predictions.", fraction)
        return []
    seen = dict.fromkeys(organ for cases in scored.values() for case in cases.values() for organ in case.files.organs)
    names = organs or list(seen)
    rows: list[CaseRow] = []
    lost: list[Picture] = []
    for key, rank in shown.items():
        own = {arm: cases[key] for arm, cases in scored.items() if key in cases}
        dice = {arm: f"{case.dice:.2f}" if math.isfinite(case.dice) else "undefined" for arm, case in own.items()}
        files = {arm: case.files for arm, case in own.items()}
        words = {arm: f"Dice {value}" for arm, value in dice.items()}
        try:
            rows.append(case_row(files, names, heading=f"{rank}: {_shortened(key)}", dice=words))
        except Exception as error:
            lost.append(Picture(None, _not_drawn(f"case {key} with {fraction:g} % of the labels", error)))
    if not rows:
        return lost
    title = f"Cases with {fraction:g} % of the labels"
    whole, zoomed = (case_figure(rows, list(runs), names, title=title, zoom=zoom) for zoom in (False, True))
    return [
        _save(whole, output_dir / f"cases_{fraction:g}.png", title),
        _save(zoomed, output_dir / f"cases_{fraction:g}_zoom.png", f"{title}, zoomed in"),
        *lost,
    ]


def _shortened(key: str) -> str:
    """A case's key as the panel's width allows: the end tells UIDs apart."""
    return key if len(key) <= _LONGEST_KEY else f"...{key[-_LONGEST_KEY:]}"


def _save(figure: Figure, path: Path, caption: str) -> Picture:
    with atomic_file(path) as file:
        figure.savefig(file, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return Picture(path, caption)


def _scored_cases(runs: Sequence[Result], organs: Sequence[str] | None) -> dict[str, _Scored]:
    """Each case of an arm's first run that scored it and still has its files."""
    found: dict[str, _Scored] = {}
    for run in runs:
        if run.scores is None or run.evaluation is None or "dice" not in score_columns(run.scores):
            continue
        files = read_case_files(run.evaluation)
        dice: dict[str, list[float]] = {}
        for score in read_scores(run.scores, ["dice"]):
            if organs is None or score.organ in organs:
                dice.setdefault(score.case, []).append(score.values["dice"])
        for case, values in dice.items():
            if case in files and all(
                p.exists() for p in (files[case].image, files[case].reference, files[case].prediction)
            ):
                finite = [value for value in values if math.isfinite(value)]
                found.setdefault(case, _Scored(math.fsum(finite) / len(finite) if finite else math.nan, files[case]))
    return found


def _chosen(scored: Mapping[str, Mapping[str, _Scored]], reference_arm: str | None) -> dict[str, str]:
    """Worst, median and best case of an arm, with that word."""
    own = scored.get(reference_arm or "", {}) or next((cases for cases in scored.values() if cases), {})
    others = [cases for cases in scored.values() if cases]
    ranked = sorted((case.dice, key) for key, case in own.items() if math.isfinite(case.dice))
    shared = [place for place in ranked if all(place[1] in cases for cases in others)]
    keys = [key for _, key in shared or ranked]
    if not keys:
        return {}
    # of two cases one is the worst and the other the best
    picked = {"worst": keys[0], "best": keys[-1], "median": keys[len(keys) // 2]}
    rank_of: dict[str, str] = {}
    for rank, key in picked.items():
        rank_of.setdefault(key, rank if len(keys) > 1 else "only")
    return {key: rank_of[key] for key in keys if key in rank_of}
