"""The validation Dice of all finished runs, read once for all that shows it."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtmed.studies.curves import Curve, read_validation_dice
from mtmed.studies.results import Result

__all__ = ["DiceCurves", "iterations_per_epoch", "read_dice_curves"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiceCurves:
    """Validation Dice over the iterations.

    Attributes:
        curves: of each finished run whose training recorded it, with at least one value.
        unreadable: why a run's events cannot be read, a line each.
    """

    curves: Mapping[Result, Curve]
    unreadable: tuple[str, ...]

    def of(self, arm: str, fraction: float) -> list[Curve]:
        """Curves of one arm at one label fraction, in the order of the runs."""
        return [curve for run, curve in self.curves.items() if (run.arm, run.fraction) == (arm, fraction)]


def read_dice_curves(results: Sequence[Result]) -> DiceCurves:
    """Read the events of every finished run whose training is there; runs that share a training share its curve."""
    read: dict[Path, Curve | None] = {}
    unreadable = []
    for training in dict.fromkeys(run.training for run in results if run.state == "finished"):
        if training is None:
            continue
        try:
            read[training] = read_validation_dice(training)
        except Exception as error:  # the report on hours of computing is not lost over a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            unreadable.append(f"validation Dice in {training}: cannot be read ({reason})")
            logger.warning("The %s", unreadable[-1])
    found = {run: read.get(run.training) for run in results if run.state == "finished" and run.training is not None}
    curves = {run: curve for run, curve in found.items() if curve is not None and len(curve.steps)}
    return DiceCurves(curves, tuple(unreadable))


def iterations_per_epoch(training: Path) -> int | None:
    """Length of an epoch of a training.

    It is the key ``iterations_per_epoch`` of ``config.json``; where that is an expression, what ``checkpoint.pt``
    counted. None if neither says it.
    """
    try:
        stated = json.loads((training / "config.json").read_text(encoding="utf-8")).get("iterations_per_epoch")
    except (OSError, ValueError, AttributeError):
        stated = None
    if type(stated) is int and stated > 0:
        return stated
    path = training / "checkpoint.pt"
    if not path.is_file():
        return None
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "epoch_length" in content:
            return int(content["epoch_length"])
        return int(content["iteration"]) // int(content["epoch"]) or None
    except Exception as error:
        logger.warning("The epochs of %s are not known: %s", training, " ".join(str(error).split()))
        return None
