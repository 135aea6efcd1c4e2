"""The validation Dice of all arms as TensorBoard events, so that they lie in one chart."""

import re
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from mtmed.files import write_error
from mtmed.studies.curves import Curve, mean_curve
from mtmed.studies.dice_curves import DiceCurves
from mtmed.studies.smoothing import dice_window, moving_average

__all__ = ["CURVES", "write_dice_events"]

CURVES = "curves"
"""Name of the folder, in that of the study."""

_EVENTS = "events.out.tfevents.*"


def write_dice_events(dice: DiceCurves, folder: Path) -> None:
    """Write ``<arm>-<fraction>%/`` with the tags ``dice/mean`` and ``dice/smoothed`` over the iterations.

    The first is the mean over the arm's runs as recorded, the second the mean of their moving averages
    (`mtmed.studies.smoothing`); both over the iterations that all of the runs cover. What an earlier report wrote there
    is replaced, also of arms that are no longer in the study. Only event files are removed, and only in folders that
    lie directly in `folder`.

    Args:
        dice: validation Dice of the finished runs.
        folder: the folder; not made if there is nothing to write.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        old = [path for path in folder.glob(f"*/{_EVENTS}") if path.is_file() and not path.parent.is_symlink()]
        cells = dict.fromkeys((run.arm, run.fraction) for run in dice.curves)
        names: set[str] = set()
        for arm, fraction in cells:
            lengths = [len(curve.steps) for run, curve in dice.curves.items() if run.fraction == fraction]
            name = _folder_name(arm, fraction, names)
            names.add(name)
            _write(folder / name, dice.of(arm, fraction), dice_window(lengths))
        for path in old:
            path.unlink(missing_ok=True)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    except OSError as error:
        raise write_error(folder, error) from error


def _write(folder: Path, curves: Sequence[Curve], window: int) -> None:
    averaged = [Curve(curve.steps, moving_average(curve.values, window)) for curve in curves]
    # hides the file that this one replaces, should it stay because the report is killed here
    with SummaryWriter(str(folder), purge_step=0) as events:
        for tag, mean in (("dice/mean", mean_curve(curves)), ("dice/smoothed", mean_curve(averaged))):
            for step, value in zip(mean.steps, mean.values, strict=True):
                events.add_scalar(tag, float(value), int(step))


def _folder_name(arm: str, fraction: float, taken: set[str]) -> str:
    """A name for a folder that no other arm has, whatever signs the arm's name holds."""
    plain = re.sub(r"[^\w.+-]+", "_", arm) + f"-{fraction:g}%"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    return name
