"""The learning-rate test finds where the loss falls, leaves nothing changed and shows its curve."""

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.engines import find_learning_rate
from mtmed.errors import InputError


def rows(path: Path) -> list[tuple[float, float]]:
    with path.open() as file:
        return [(float(row["learning_rate"]), float(row["smoothed_loss"])) for row in csv.DictReader(file)]


@pytest.fixture
def trainer(make_trainer: Callable[..., Any]) -> Any:
    return make_trainer(max_epochs=1, epoch_length=40)


def test_the_suggestion_lies_where_the_smoothed_loss_falls_fastest(trainer: Any, tmp_path: Path) -> None:
    suggestion = find_learning_rate(trainer, output_dir=tmp_path, start=1e-4, end=2.0)
    curve = rows(tmp_path / "learning_rate.csv")
    losses = [loss for _, loss in curve]
    falling = losses[: losses.index(min(losses)) + 1]
    slopes = [(falling[i + 1] - falling[i - 1]) / 2 for i in range(1, len(falling) - 1)]
    assert suggestion == pytest.approx(curve[1 + slopes.index(min(slopes))][0])
    assert json.loads((tmp_path / "learning_rate.json").read_text()) == {"learning_rate": pytest.approx(suggestion)}
    assert (tmp_path / "learning_rate.png").stat().st_size > 5000


def test_the_learning_rate_grows_exponentially_over_the_range(trainer: Any, tmp_path: Path) -> None:
    find_learning_rate(trainer, output_dir=tmp_path, start=1e-3, end=1e-1)
    rates = [rate for rate, _ in rows(tmp_path / "learning_rate.csv")]
    assert len(rates) == 40
    ratios = [after / before for before, after in itertools.pairwise(rates[1:])]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-4)
    assert (rates[0], rates[-1]) == (pytest.approx(1e-3, rel=0.15), pytest.approx(1e-1, rel=0.15))


def test_model_and_optimiser_are_as_before(trainer: Any, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in trainer.multi_task_model.state_dict().items()}
    find_learning_rate(trainer, output_dir=tmp_path, start=1e-3, end=1.0)
    after = trainer.multi_task_model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.1]


def test_a_loss_that_is_no_longer_finite_ends_the_test(
    make_trainer: Callable[..., Any], batches: Any, tmp_path: Path
) -> None:
    trainer = make_trainer(loader=batches(spoilt=30), max_epochs=1, epoch_length=40)
    find_learning_rate(trainer, output_dir=tmp_path, start=1e-3, end=1e-1)
    assert len(rows(tmp_path / "learning_rate.csv")) == 30


def test_a_loss_that_is_not_finite_from_the_start_is_an_error(
    make_trainer: Callable[..., Any], batches: Any, tmp_path: Path
) -> None:
    trainer = make_trainer(loader=batches(spoilt=0), max_epochs=1, epoch_length=40)
    with pytest.raises(InputError, match="not finite"):
        find_learning_rate(trainer, output_dir=tmp_path, start=1e-3, end=1e-1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.1)])
def test_an_empty_range_is_refused(trainer: Any, tmp_path: Path, start: float, end: float) -> None:
    with pytest.raises(InputError, match="give 0 < start < end"):
        find_learning_rate(trainer, output_dir=tmp_path, start=start, end=end)
