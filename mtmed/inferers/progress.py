"""What a user sees while volumes are predicted."""

import logging
import sys
import time
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

__all__ = ["CaseProgress"]

logger = logging.getLogger(__name__)


class CaseProgress:
    """A progress bar over the cases on a terminal, one line per case otherwise, and a last line.

    Args:
        last_line: what the run ends with: where the results are.
    """

    def __init__(self, *, last_line: str = "") -> None:
        self.last_line = last_line

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator."""
        if sys.stderr.isatty():
            ProgressBar(persist=True, desc="cases").attach(engine)
        else:
            engine.add_event_handler(Events.ITERATION_STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._report)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Any) -> None:
        self._started = time.monotonic()

    def _report(self, engine: Any) -> None:
        state = engine.state
        batch = state.batch if isinstance(state.batch, list) else [state.batch]
        names = ", ".join(str(one["output_name"]) for one in batch)
        seconds = time.monotonic() - self._started
        logger.info("case %d of %d: %s (%.1f s)", state.iteration, state.epoch_length, names, seconds)

    def _finish(self, engine: Any) -> None:
        if self.last_line:
            logger.info("%s", self.last_line)
