"""A training that no longer gets better ends, and stays ended."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from mtmed.errors import InputError
from mtmed.handlers import Checkpoint, EarlyStopping
from mtmed.networks.weights import load_checkpoint


def evaluator_with(best_epochs: list[int]) -> Engine:
    """An evaluator that knows, epoch by epoch, when its best validation was."""
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = -1.0, -1
    evaluator.best_epochs = best_epochs
    return evaluator


def validate(evaluator: Any) -> Callable[[Any], None]:
    def run(trainer: Any) -> None:
        evaluator.state.epoch = trainer.state.epoch
        evaluator.state.best_metric_epoch = evaluator.best_epochs[trainer.state.epoch - 1]
        evaluator.state.best_metric = float(evaluator.state.best_metric_epoch)

    return run


def train(
    small_trainer: Any, folder: Path, best_epochs: list[int], *, patience: int = 2, epochs: int = 6, interval: int = 1
) -> Any:
    trainer = small_trainer(epochs=epochs)
    evaluator = evaluator_with(best_epochs)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=interval), validate(evaluator))
    EarlyStopping(evaluator=evaluator, patience=patience).attach(trainer)
    checkpoint = Checkpoint(
        path=folder / "checkpoint.pt",
        model=trainer.multi_task_model,
        optimizer=trainer.optimizer,
        lr_scheduler=trainer.lr_scheduler,
        evaluator=evaluator,
        epoch_interval=5,
    )
    checkpoint.attach(trainer)
    trainer.go()
    return trainer


def test_it_stops_when_the_best_validation_is_patience_epochs_ago(small_trainer: Any, tmp_path: Path) -> None:
    trainer = train(small_trainer, tmp_path, [1, 2, 2, 2, 2, 2])
    assert trainer.state.epoch == 4


def test_a_better_validation_gives_new_patience(small_trainer: Any, tmp_path: Path) -> None:
    trainer = train(small_trainer, tmp_path, [1, 1, 3, 3, 3, 3])
    assert trainer.state.epoch == 5


def test_without_any_valid_metric_it_counts_from_the_start_and_says_so(
    small_trainer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert train(small_trainer, tmp_path, [-1] * 6).state.epoch == 2
    assert "no validation has given a number (patience 2 epochs)" in caplog.text


def test_a_run_is_validated_before_it_may_stop(small_trainer: Any, tmp_path: Path) -> None:
    trainer = train(small_trainer, tmp_path, [3] * 9, patience=1, interval=3, epochs=9)
    assert trainer.state.epoch == 6


def test_a_resumed_run_stops_where_an_uninterrupted_one_does(small_trainer: Any, tmp_path: Path) -> None:
    best = [2, 2, 2, 2, 2, 2, 2, 2, 2]
    (tmp_path / "whole").mkdir()
    whole = train(small_trainer, tmp_path / "whole", best, patience=3, interval=2, epochs=9)
    # ends in the middle, after the patience and before the validation
    train(small_trainer, tmp_path, best, patience=3, interval=2, epochs=5)
    resumed = train(small_trainer, tmp_path, best, patience=3, interval=2, epochs=9)
    assert whole.state.epoch == resumed.state.epoch == 6
    assert load_checkpoint(tmp_path / "checkpoint.pt")["stopped"] is True


def test_a_patience_of_0_never_stops(small_trainer: Any, tmp_path: Path) -> None:
    assert train(small_trainer, tmp_path, [1] * 6, patience=0).state.epoch == 6


def test_the_checkpoint_of_a_stopped_run_is_written_at_once_and_says_so(small_trainer: Any, tmp_path: Path) -> None:
    trainer = train(small_trainer, tmp_path, [1, 2, 2, 2, 2, 2])
    content = load_checkpoint(tmp_path / "checkpoint.pt")
    assert content["stopped"] is True
    assert content["epoch"] == 4
    weight = content["model"]["weight"]
    assert torch.equal(weight, trainer.multi_task_model.state_dict()["weight"])


def test_a_run_that_gets_better_to_its_end_has_not_stopped(small_trainer: Any, tmp_path: Path) -> None:
    trainer = train(small_trainer, tmp_path, [1, 2, 3, 4, 5, 6])
    assert trainer.state.epoch == 6
    assert load_checkpoint(tmp_path / "checkpoint.pt")["stopped"] is False


def test_the_last_epoch_is_an_end_and_no_stop(small_trainer: Any, tmp_path: Path) -> None:
    train(small_trainer, tmp_path, [1, 2, 3, 4, 4, 4])
    assert load_checkpoint(tmp_path / "checkpoint.pt")["stopped"] is False


@pytest.mark.parametrize("patience", [-1, 1.5, True, None])
def test_a_patience_that_is_no_number_of_epochs_is_refused(patience: Any) -> None:
    with pytest.raises(InputError, match=r"patience: is .* whole number of epochs"):
        EarlyStopping(evaluator=evaluator_with([]), patience=patience)
