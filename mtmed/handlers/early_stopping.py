"""A training that no longer gets better ends."""

import logging
from typing import Any

from ignite.engine import Engine, Events

from mtmed.errors import InputError

__all__ = ["EarlyStopping"]

logger = logging.getLogger(__name__)


class EarlyStopping:
    """Ends a run when the validation's key metric has not become better for a number of epochs.

    It decides after validations only: the run stops at the first one that is `patience` or more epochs after the best
    one, or after the start while no validation has given a number.

    It keeps no state of its own: the checkpoint has the best metric and its epoch, so a resumed run stops where an
    uninterrupted one does. The checkpoint of a run that has stopped says so, and the same command then calls it
    finished. Attach it after the validation.

    Args:
        evaluator: validation engine with a key metric.
        patience: epochs without a better validation; 0 to never stop.

    Raises:
        InputError: the patience is no whole number of 0 or more.
    """

    def __init__(self, *, evaluator: Engine, patience: int) -> None:
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 0:
            problem, remedy = f"is {patience!r}", "give a whole number of epochs of 1 or more, or 0 to never stop"
            raise InputError("patience", problem, remedy)
        self.evaluator = evaluator
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Look at the end of each epoch of the trainer."""
        if self.patience > 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._stop_if_due)

    def _stop_if_due(self, engine: Any) -> None:
        state: Any = self.evaluator.state
        best_epoch = max(state.best_metric_epoch, 0)
        epoch = engine.state.epoch
        validated = state.epoch == epoch
        if not validated or epoch - best_epoch < self.patience or epoch >= engine.state.max_epochs:
            return
        reason = f"no better validation since epoch {best_epoch}" if best_epoch else "no validation has given a number"
        logger.info("Stopped after epoch %d: %s (patience %d epochs)", epoch, reason, self.patience)
        engine.state.stopped_early = True
        engine.terminate()
