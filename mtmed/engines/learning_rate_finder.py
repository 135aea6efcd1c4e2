"""The learning rate at which a network learns fastest, found by a short run in which it grows."""

import csv
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

from ignite.handlers import FastaiLRFinder
from matplotlib.figure import Figure

from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder

__all__ = ["find_learning_rate"]

logger = logging.getLogger(__name__)
logging.getLogger("ignite.handlers.lr_finder.FastaiLRFinder").setLevel(logging.WARNING)

_SMOOTHING = 0.2  # weight of the newest loss; Ignite's 0.05 lags a decade behind within 100 iterations
_DIVERGED = 5.0  # times the lowest smoothed loss
_TOO_FEW = 10  # points of a curve that says nothing


def find_learning_rate(trainer: Any, *, output_dir: str | Path, start: float = 1e-7, end: float = 1.0) -> float:
    """Train while the learning rate grows exponentially, and tell the one at which the loss falls fastest.

    The test is Ignite's ``FastaiLRFinder`` (Smith 2017, arXiv 1506.01186) on the trainer itself: its network, tasks,
    weighting and batches, as many iterations as the trainer has. It ends early when the smoothed loss is five times its
    lowest value or not finite. Afterwards model, optimiser and weighting are as they were. Give the trainer no handlers
    that write checkpoints.

    Writes ``learning_rate.csv`` (learning rate, smoothed loss), ``learning_rate.json`` (that rate) and
    ``learning_rate.png`` (the curve, that rate marked).

    Args:
        trainer: `mtmed.engines.MultiTaskTrainer`.
        output_dir: folder of the run.
        start: first learning rate.
        end: last learning rate.

    Returns:
        The learning rate of the steepest fall; for a whole training up to a tenth of it is usual.

    Raises:
        InputError: the range is empty, or the loss did not fall in it.
    """
    if not 0 < start < end:
        raise InputError("learning rates", f"go from {start} to {end}", "give 0 < start < end")
    finder = FastaiLRFinder()
    parts = {"model": trainer.multi_task_model, "optimizer": trainer.optimizer, "weighting": trainer.weighting}
    with warnings.catch_warnings():
        # a loss that never diverges is no fault: the curve shows it
        warnings.simplefilter("ignore", UserWarning)
        with finder.attach(
            trainer,
            to_save=parts,
            output_transform=_loss,
            num_iter=trainer.state.max_epochs * trainer.state.epoch_length,
            start_lr=float(start),
            end_lr=float(end),
            smooth_f=_SMOOTHING,
            diverge_th=_DIVERGED,
        ) as attached:
            try:
                attached.run()
            except InputError as error:
                if len(finder.get_results()["lr"]) < _TOO_FEW:
                    raise
                logger.info("The test ends: %s", error)
    rates, losses = (_numbers(finder.get_results()[name]) for name in ("lr", "loss"))
    try:
        suggestion = float(_numbers([finder.lr_suggestion()])[0])
    except RuntimeError as error:
        problem = f"the loss did not fall between {rates[0]:.1e} and {rates[-1]:.1e}"
        raise InputError("learning rates", problem, "begin lower, or test over more iterations") from error
    if rank() == 0:
        _write(require_writable_folder(output_dir), rates, losses, suggestion)
        text = "The loss falls fastest at learning rate %.2g; up to a tenth of it is usual (%s/learning_rate.png)"
        logger.info(text, suggestion, output_dir)
    return suggestion


def _loss(output: Any) -> float:
    return float(output["loss"])


def _numbers(values: list[Any]) -> list[float]:
    return [float(value[0] if isinstance(value, list) else value) for value in values]


def _write(folder: Path, rates: list[float], losses: list[float], suggestion: float) -> None:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["learning_rate", "smoothed_loss"])
    rows.writerows(zip(rates, losses, strict=True))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    axes.axvline(suggestion, linestyle="--", color="tab:red", label=f"fastest: {suggestion:.2g}")
    # what lies above the first loss is divergence, which would flatten the rest
    low, high = min(losses), max(losses[0], min(losses))
    axes.set_ylim(low - 0.05 * (high - low + 1e-8), high + 0.2 * (high - low + 1e-8))
    axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed loss")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    for name, content in (
        ("learning_rate.csv", table.getvalue().encode()),
        ("learning_rate.json", (json.dumps({"learning_rate": suggestion}) + "\n").encode()),
        ("learning_rate.png", picture.getvalue()),
    ):
        with atomic_file(folder / name) as file:
            file.write(content)
