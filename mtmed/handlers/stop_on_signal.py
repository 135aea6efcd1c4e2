"""A run that is asked to end saves where it is and ends."""

import logging
import signal
from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events

from mtmed.distributed import all_reduce_sum, barrier, rank, world_size
from mtmed.interruption import Interruption

__all__ = ["StopOnSignal"]

logger = logging.getLogger(__name__)


class StopOnSignal:
    """Ends a run on SIGTERM, SIGINT (Ctrl-C) or SIGUSR1, see `mtmed.interruption`; `Checkpoint` brings it along.

    The iteration under way is finished, also by its other handlers. Then ``Events.INTERRUPT`` is fired, for handlers
    that write at the end of an epoch, the checkpoint is saved, and the run ends with status 75 (130 after Ctrl-C). All
    processes of a distributed run stop after the same iteration, whichever of them heard the signal.

    A validation at the end of an epoch is broken off, and begun anew when the run goes on; of several processes none
    breaks off, but the first one saves what there is before it goes on validating. A scheduler that stepped between the
    epoch's last iteration and its validation would step twice; then the last checkpoint stays.

    Args:
        save: saves the checkpoint; it is given the engine and whether the end of the epoch was reached.
        position: tells how often the scheduler has stepped.
        evaluator: validation engine.
    """

    def __init__(
        self, *, save: Callable[[Any, bool], None], position: Callable[[], int], evaluator: Engine | None
    ) -> None:
        self._save, self._position_now, self._evaluator = save, position, evaluator
        self._interruption = Interruption()
        self._position = -1
        self._saved_while_validating = False

    def start(self, engine: Engine) -> None:
        """Begin to listen; call it at the engine's start, so that it comes after all other handlers."""
        self._position, self._saved_while_validating = self._position_now(), False
        self._interruption.listen()
        if engine.has_event_handler(self._after_iteration):
            return
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._release)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._after_exception)
        if self._evaluator is not None:
            self._evaluator.add_event_handler(Events.EPOCH_STARTED, self._validation_starts, engine)
            self._evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._validation_goes_on, engine)

    def _agreed(self, engine: Any) -> bool:
        """Whether any process heard a signal."""
        heard = self._interruption.number is not None
        if world_size() > 1:
            flag = torch.tensor(float(heard), device=getattr(engine.state, "device", None))
            heard = bool(all_reduce_sum(flag) > 0)
        return heard

    def _after_iteration(self, engine: Any) -> None:
        self._position = self._position_now()
        if self._agreed(engine):
            self._stop(engine, epoch_ended=False)

    def _after_epoch(self, engine: Any) -> None:
        if self._agreed(engine):
            self._stop(engine, epoch_ended=True)

    def _stop(self, engine: Any, *, epoch_ended: bool) -> None:
        engine.fire_event(Events.INTERRUPT)
        self._save(engine, epoch_ended)
        barrier()
        self._interruption.number = self._interruption.number or signal.SIGTERM
        self._leave(engine)

    def _leave(self, engine: Any) -> None:
        self._interruption.at_once = None
        self._interruption.release()
        iteration, epoch = engine.state.iteration, engine.state.epoch
        if rank() == 0:
            logger.info("Saved on a signal at iteration %d, in epoch %d", iteration, epoch)
        text = f"interrupted at iteration {iteration}; the same command continues" if rank() == 0 else ""
        self._interruption.leave(text)

    def _validation_starts(self, engine: Any) -> None:
        # validations at other moments than an epoch's end are finished
        if world_size() == 1 and engine.last_event_name == Events.EPOCH_COMPLETED:
            self._interruption.at_once = _break_off
            if self._interruption.number is not None:
                _break_off()

    def _validation_goes_on(self, engine: Any) -> None:
        assert self._evaluator is not None
        state: Any = self._evaluator.state
        if state.iteration == state.epoch_length:
            # what follows is quick, and writes the best network
            self._interruption.at_once = None
        elif world_size() > 1 and rank() == 0 and self._interruption.number is not None:
            at_end = engine.last_event_name == Events.EPOCH_COMPLETED
            if at_end and not self._saved_while_validating and self._position == self._position_now():
                engine.fire_event(Events.INTERRUPT)
                self._save(engine, False)
                self._saved_while_validating = True

    def _after_exception(self, engine: Any, error: BaseException) -> None:
        heard, validating = self._interruption.number is not None, self._interruption.at_once is not None
        broken_off = isinstance(error, KeyboardInterrupt) and not error.args
        if heard and validating and broken_off:
            engine.fire_event(Events.INTERRUPT)
            if self._position == self._position_now():
                self._save(engine, False)
                self._leave(engine)
        self._interruption.at_once = None
        self._interruption.release()
        if heard and (broken_off or (world_size() > 1 and isinstance(error, RuntimeError))):
            # the other processes have ended, or there is nothing newer to save
            self._interruption.leave("interrupted; the same command continues from the last checkpoint")
        raise error

    def _release(self) -> None:
        self._interruption.release()
        if self._interruption.number is not None:
            self._interruption.leave()


def _break_off() -> None:
    raise KeyboardInterrupt
