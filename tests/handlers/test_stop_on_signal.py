"""A run that is asked to end saves at once, and goes on as if it had not been asked."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.errors import InputError
from mtmed.handlers import BestModelWriter, Checkpoint, EarlyStopping, LossHistory, Progress, TensorBoardLog
from mtmed.interruption import SIGNALS, UNFINISHED
from mtmed.networks import build_network
from mtmed.networks.weights import load_checkpoint

NETWORK = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [2, 2],
    "strides": [2],
}


@pytest.fixture(autouse=True)
def listeners(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Any]]:
    """Who hears the signals; the same ones afterwards."""
    # the process of a run would be ended, this one shall not be
    monkeypatch.setattr("mtmed.interruption._PATIENCE", 10_000.0)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if before[signal.SIGINT] is signal.SIG_IGN:
        # as pytest is started in the background; the test's own handler stands for Python's
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield {number: signal.getsignal(number) for number in SIGNALS}
    for number, listener in before.items():
        signal.signal(number, listener)


@pytest.fixture
def make_run(small_trainer: Any, make_evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A trainer with all that a bundle attaches, validated every second epoch."""
    # pictures take longer than all the rest
    monkeypatch.setattr(TensorBoardLog, "_keep_first_case", lambda self, evaluator: None)

    def make(folder: Path, *, epochs: int = 4, **options: Any) -> Any:
        trainer = small_trainer(epochs=epochs, epoch_length=3)
        network = build_network(NETWORK)
        best = BestModelWriter(path=folder / "model.pt", network=network, settings={})
        evaluator = make_evaluator(handlers=[best])
        parts = {"model": trainer.multi_task_model, "optimizer": trainer.optimizer}
        Checkpoint(
            path=folder / "checkpoint.pt",
            lr_scheduler=trainer.lr_scheduler,
            evaluator=evaluator,
            **parts,
            **options,
        ).attach(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda engine: evaluator.run(engine.state.epoch))
        EarlyStopping(evaluator=evaluator, patience=10).attach(trainer)
        LossHistory(path=folder / "losses.csv").attach(trainer)
        TensorBoardLog(log_dir=folder, evaluator=evaluator).attach(trainer)
        Progress(evaluator=evaluator).attach(trainer)
        trainer.evaluator = evaluator
        return trainer

    return make


def facts(folder: Path) -> dict[str, Any]:
    """Everything in which two runs must agree."""
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    checkpoint.pop("circumstances")
    scalars: dict[str, dict[int, float]] = {}
    # one by one: by name, the tenth file that a process writes in a second comes before its ninth
    for file in folder.glob("events.out.*"):
        events = EventAccumulator(str(file)).Reload()
        for name in events.Tags()["scalars"]:
            values = scalars.setdefault(name, {})
            for event in events.Scalars(name):
                assert values.setdefault(event.step, event.value) == event.value
    files = {name: (folder / name).read_bytes() for name in ("losses.csv", "best.json")}
    return {"checkpoint": repr(checkpoint), "scalars": scalars, **files}


def epoch_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of each epoch, but for the time that is left."""
    said = [record.getMessage() for record in caplog.records]
    return [text.partition("  (")[0] for text in said if text.startswith("epoch ")]


# where a signal comes: engine, event, how often it has come before
MOMENTS = {
    "in the middle of an epoch": ("trainer", Events.ITERATION_STARTED(once=5), 5),
    "in the first iteration of a run": ("trainer", Events.ITERATION_STARTED(once=1), 1),
    "in the last iteration of an epoch": ("trainer", Events.ITERATION_STARTED(once=3), 3),
    "in the last iteration of an epoch with a validation": ("trainer", Events.ITERATION_STARTED(once=6), 6),
    "in a validation": ("evaluator", Events.ITERATION_STARTED(once=2), 6),
    "between two volumes of a validation": ("evaluator", Events.GET_BATCH_STARTED(once=1), 6),
    "at the end of a validation": ("evaluator", Events.EPOCH_COMPLETED, 6),
    "at the end of an epoch": ("trainer", Events.EPOCH_COMPLETED(once=1), 3),
    "in the last iteration of all": ("trainer", Events.ITERATION_STARTED(once=12), 12),
    "in the last validation": ("evaluator", Events.ITERATION_STARTED(once=1), 12),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted_run_goes_on_and_ends_bit_identical(
    moment: str, make_run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="mtmed")
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    make_run(tmp_path / "whole").go()
    expected_lines = epoch_lines(caplog)
    caplog.clear()
    engine, event, iteration = MOMENTS[moment]
    trainer = make_run(tmp_path / "stopped")
    asked = trainer if engine == "trainer" else trainer.evaluator

    def ask(*_: Any) -> None:
        if trainer.state.iteration >= iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    asked.add_event_handler(event, ask)
    with pytest.raises(SystemExit) as ended:
        trainer.go()
    assert ended.value.code == UNFINISHED
    assert capsys.readouterr().err == f"interrupted at iteration {iteration}; the same command continues\n"
    assert load_checkpoint(tmp_path / "stopped" / "checkpoint.pt")["iteration"] == iteration
    again = make_run(tmp_path / "stopped")
    outputs = again.go()
    assert len(outputs) == 12 - iteration
    assert facts(tmp_path / "stopped") == facts(tmp_path / "whole")
    assert epoch_lines(caplog) == expected_lines
    assert not list((tmp_path / "stopped").glob(".*"))


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, SystemExit)])
def test_each_signal_has_its_ending_and_goes_back_to_its_listener(
    number: int,
    ending: type[BaseException],
    make_run: Any,
    listeners: dict[int, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = make_run(tmp_path)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: os.kill(os.getpid(), number))
    with pytest.raises(ending) as ended:
        trainer.go()
    said = capsys.readouterr().err or f"{ended.value}\n"
    assert said == "interrupted at iteration 2; the same command continues\n"
    assert load_checkpoint(tmp_path / "checkpoint.pt")["iteration"] == 2
    assert {given: signal.getsignal(given) for given in SIGNALS} == listeners


def test_signals_go_back_to_their_listeners_after_a_run_and_after_a_fault(
    make_run: Any, listeners: dict[int, Any], tmp_path: Path
) -> None:
    heard = []
    trainer = make_run(tmp_path, epochs=1)
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: heard.append(signal.getsignal(signal.SIGTERM)))
    trainer.go()
    assert heard[0] != listeners[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in SIGNALS} == listeners

    def fail() -> None:
        raise ValueError("a fault")

    trainer = make_run(tmp_path, epochs=2)
    trainer.add_event_handler(Events.ITERATION_STARTED, fail)
    with pytest.raises(ValueError, match="a fault"):
        trainer.go()
    assert {number: signal.getsignal(number) for number in SIGNALS} == listeners


def test_checkpoint_in_an_epoch_fits_its_length_only(make_run: Any, small_trainer: Any, tmp_path: Path) -> None:
    trainer = make_run(tmp_path)
    trainer.add_event_handler(Events.ITERATION_STARTED(once=4), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        trainer.go()
    other = small_trainer(epochs=6, epoch_length=2)
    parts = {"model": other.multi_task_model, "optimizer": other.optimizer, "lr_scheduler": other.lr_scheduler}
    Checkpoint(path=tmp_path / "checkpoint.pt", **parts).attach(other)
    with pytest.raises(InputError, match=r"epoch_length: is 2.*iteration 4"):
        other.go()


def test_end_of_an_epoch_whose_scheduler_has_stepped_already_is_not_saved(make_run: Any, tmp_path: Path) -> None:
    """To go on there would step it twice."""
    trainer = make_run(tmp_path)
    # stepping before the validation, as a scheduler per epoch does
    handlers = trainer._event_handlers[Events.EPOCH_COMPLETED]
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: trainer.lr_scheduler.step())
    handlers.insert(0, handlers.pop())
    trainer.evaluator.add_event_handler(Events.ITERATION_STARTED, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        trainer.go()
    content = load_checkpoint(tmp_path / "checkpoint.pt")
    assert (content["iteration"], content.get("epoch_ended", True)) == (3, True)


def test_a_checkpoint_never_holds_weights_that_are_not_finite(make_run: Any, tmp_path: Path) -> None:
    trainer: Any = make_run(tmp_path)

    def spoil(engine: Engine) -> None:
        with torch.no_grad():
            trainer.multi_task_model.weight[0, 1] = torch.inf

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), spoil)
    with pytest.raises(InputError, match="weight is not finite and is not saved; the last checkpoint stays"):
        trainer.go()
    assert load_checkpoint(tmp_path / "checkpoint.pt")["iteration"] == 3
