"""What a user sees while a run goes on."""

import logging
import sys
import time
from datetime import timedelta
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

from mtmed.distributed import rank

__all__ = ["Progress"]

logger = logging.getLogger(__name__)


class Progress:
    """A progress bar with the time left on a terminal, one line per epoch otherwise.

    Args:
        evaluator: validation engine, whose metrics belong in the line.
    """

    def __init__(self, *, evaluator: Engine | None = None) -> None:
        self.evaluator = evaluator
        self._validated = False

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer; other processes than the first stay silent."""
        if self.evaluator is not None:
            # Ignite's and MONAI's lines on each validation repeat the line of the epoch
            self.evaluator.logger.setLevel(logging.WARNING)
            self.evaluator.add_event_handler(Events.COMPLETED, self._note_validation)
        if rank() != 0:
            return
        if sys.stderr.isatty():
            bar = ProgressBar(persist=True, desc="epoch")
            bar.attach(engine, output_transform=lambda output: {"loss": output["loss"]})
        # sums over the epoch, which a checkpoint in its middle keeps
        state: Any = engine.state
        state.epoch_losses = {}
        engine.state_dict_user_keys.append("epoch_losses")
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def _start(self, engine: Any) -> None:
        self._started, self._first_iteration = time.monotonic(), engine.state.iteration
        # attached only now, so that the line comes after the epoch's validation
        if not engine.has_event_handler(self._report):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _note_validation(self) -> None:
        self._validated = True

    def _add(self, engine: Any) -> None:
        output, sums = engine.state.output, engine.state.epoch_losses
        for name, value in {"loss": output["loss"], **output["losses"]}.items():
            sums[name] = sums.get(name, 0.0) + value

    def _report(self, engine: Any) -> None:
        state = engine.state
        losses = {name: value / state.epoch_length for name, value in state.epoch_losses.items()}
        state.epoch_losses = {}
        done, left = state.iteration - self._first_iteration, state.max_epochs * state.epoch_length - state.iteration
        text = " ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if self.evaluator is not None and self._validated:
            key = self.evaluator.state.key_metric_name
            text += f" | {key} {self.evaluator.state.metrics[key]:.4g}"
        self._validated = False
        if done:  # else only the end of an interrupted epoch was left to do
            seconds_left = (time.monotonic() - self._started) / done * left
            text += f"  ({timedelta(seconds=round(seconds_left))} left)"
        logger.info("epoch %d/%d  %s", state.epoch, state.max_epochs, text)
