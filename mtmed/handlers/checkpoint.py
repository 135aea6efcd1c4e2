"""Resume that really resumes."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

import mtmed
from mtmed.distributed import rank, world_size
from mtmed.errors import InputError
from mtmed.handlers.stop_on_signal import StopOnSignal
from mtmed.networks.weights import atomic_save, load_checkpoint

__all__ = ["Checkpoint"]

logger = logging.getLogger(__name__)


class Checkpoint:
    """Saves all that a run is at the end of its epochs, and continues from it when the same command is given again.

    Saved are model, optimiser, scheduler, scaler, weighting, step and best metric, after every other handler of the
    epoch has run, by one process, to a temporary name that is flushed and renamed: a run killed at any moment leaves
    the last whole checkpoint. Random states need no saving, because every random choice is a function of seed and step.

    On SIGTERM, SIGINT (Ctrl-C) or SIGUSR1 the run finishes its iteration, saves and ends with status 75 (130 after
    Ctrl-C), within 30 seconds; a second signal ends it at once. The same command goes on in the middle of the epoch, or
    with the epoch's end, and finishes as an uninterrupted run would. Such a checkpoint also keeps what Ignite calls the
    engine's ``state_dict_user_keys``: a handler that sums up an epoch registers its sums there, or writes what it has
    on ``Events.INTERRUPT``. See `mtmed.handlers.stop_on_signal`.

    Args:
        path: file of the checkpoint.
        model: what is trained.
        optimizer: its optimiser.
        lr_scheduler: its scheduler, if it has one.
        evaluator: validation engine, whose best metric must survive.
        epoch_interval: epochs between checkpoints; the last epoch, also of a run that stops early, is always saved.
    """

    def __init__(
        self,
        *,
        path: str | Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        evaluator: Engine | None = None,
        epoch_interval: int = 1,
    ) -> None:
        if epoch_interval < 1:
            raise InputError("epoch_interval", f"is {epoch_interval}", "give 1 or more")
        self.path = Path(path)
        self.model = model
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.epoch_interval = epoch_interval
        self._stop = StopOnSignal(save=self._write, position=self._position, evaluator=evaluator)
        self._owes_epoch_end = False

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts; save after all other handlers of each epoch."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Any) -> None:
        if self.path.is_file():
            self._load(engine)
        if not engine.has_event_handler(self._save):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
            # a handler that is added while the event is handled comes last
            engine.add_event_handler(Events.STARTED, self._after_start)

    def _after_start(self, engine: Any) -> None:
        """Listen, and do what was left of an epoch whose iterations are done."""
        self._stop.start(engine)
        if self._owes_epoch_end:
            self._owes_epoch_end = False
            engine.fire_event(Events.EPOCH_COMPLETED)

    def _position(self) -> int:
        return self.lr_scheduler.last_epoch if self.lr_scheduler is not None else 0

    def _parts(self, engine: Any) -> dict[str, Any]:
        parts = {
            "model": engine.multi_task_model,
            "optimizer": self.optimizer,
            "weighting": engine.weighting,
            "lr_scheduler": self.lr_scheduler,
            "scaler": engine.scaler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _follow(self, schedule: dict[str, Any]) -> None:
        """Go on with another schedule than the checkpoint's, as after a change of the run's length."""
        assert self.lr_scheduler is not None
        position = self.lr_scheduler.last_epoch
        self.lr_scheduler.load_state_dict({**self.lr_scheduler.state_dict(), **schedule, "last_epoch": 0})
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.base_lrs, strict=True):
            group["lr"] = rate
        with warnings.catch_warnings():
            # it asks for a step of the optimiser before the first of the schedule
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(position):
                self.lr_scheduler.step()
        rates = ", ".join(f"{rate:.3g}" for rate in self.lr_scheduler.get_last_lr())
        logger.info("The schedule is not the one of the checkpoint; the learning rate goes on at %s", rates)

    def _save(self, engine: Any) -> None:
        state = engine.state
        stopped = bool(getattr(state, "stopped_early", False))
        due = state.epoch % self.epoch_interval == 0 or state.epoch == state.max_epochs or stopped
        if due:
            self._write(engine, True)

    def _write(self, engine: Any, epoch_ended: bool) -> None:
        if rank() != 0:
            return
        state = engine.state
        _require_finite(self.model)
        content = {name: part.state_dict() for name, part in self._parts(engine).items()}
        content["iteration"] = state.iteration
        content["epoch"] = state.epoch
        content["stopped"] = bool(getattr(state, "stopped_early", False))
        content["circumstances"] = _circumstances()
        if not epoch_ended:
            content["epoch_ended"] = False
            content["epoch_length"] = state.epoch_length
            content["epoch_state"] = {name: getattr(state, name) for name in engine.state_dict_user_keys}
        if self.evaluator is not None:
            best = self.evaluator.state
            content["best_metric"] = float(best.best_metric)
            content["best_metric_epoch"] = int(best.best_metric_epoch)
        atomic_save(content, self.path)

    def _load(self, engine: Any) -> None:
        content = load_checkpoint(self.path)
        parts = self._parts(engine)
        missing = sorted(set(parts) - set(content))
        if missing:
            raise InputError(self.path, f"holds no {missing[0]}", "start over with --new true")
        schedule = _schedule(self.lr_scheduler)
        try:
            for name, part in parts.items():
                part.load_state_dict(content[name])
        except InputError:
            raise
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                self.path, "belongs to another network or optimiser", "use another output_dir or --new true"
            ) from error
        epoch_length, iteration = engine.state.epoch_length, content["iteration"]
        in_epoch = not content.get("epoch_ended", True)
        fits = content["epoch_length"] == epoch_length if in_epoch else iteration % epoch_length == 0
        if not fits:
            raise InputError(
                "epoch_length",
                f"is {epoch_length}, but the run stopped at iteration {iteration}",
                "keep the old value or start over with --new true",
            )
        engine.state.iteration = iteration
        engine.state.epoch = iteration // epoch_length
        for name, value in content.get("epoch_state", {}).items():
            setattr(engine.state, name, value)
        self._owes_epoch_end = in_epoch and iteration % epoch_length == 0
        if self.evaluator is not None and "best_metric" in content:
            self.evaluator.state.best_metric = content["best_metric"]
            self.evaluator.state.best_metric_epoch = content["best_metric_epoch"]
        if schedule != _schedule(self.lr_scheduler):
            self._follow(schedule)
        if in_epoch:
            logger.info("Continuing after iteration %d from %s", iteration, self.path)
        else:
            logger.info("Continuing at epoch %d from %s", engine.state.epoch + 1, self.path)
        now, then = _circumstances(), content["circumstances"]
        changed = [f"{key} {then.get(key)} -> {now[key]}" for key in now if now[key] != then.get(key)]
        if changed:
            logger.info("Not bit-identical to an uninterrupted run, because these changed: %s", ", ".join(changed))


def _require_finite(model: nn.Module) -> None:
    """Keep the last good checkpoint rather than write one that no run can go on from."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            problem = "weight is not finite and is not saved; the last checkpoint stays"
            raise InputError(name, problem, "start over with --new true and a lower learning_rate")


def _schedule(lr_scheduler: Any) -> dict[str, Any]:
    """What a scheduler was made with, without where it is: plain values that do not change while it runs."""
    moving = ("last_epoch", "_step_count", "_last_lr", "_is_initial", "_get_lr_called_within_step")
    state = lr_scheduler.state_dict() if lr_scheduler is not None else {}
    return {name: value for name, value in state.items() if name not in moving and isinstance(value, int | float)}


def _circumstances() -> dict[str, Any]:
    """What two runs must share to be bit-identical."""
    return {
        "threads": torch.get_num_threads(),
        "world_size": world_size(),
        "torch": str(torch.__version__),
        "mtmed": mtmed.__version__,
    }
