"""Fixtures of a trainer of a tiny network."""

from collections.abc import Callable

import pytest
import tiny_trainer

from mtmed.engines import MultiTaskTrainer
from mtmed.tasks import MultiTaskModel


@pytest.fixture
def batches() -> type[tiny_trainer.Batches]:
    return tiny_trainer.Batches


@pytest.fixture
def tiny_model() -> Callable[..., MultiTaskModel]:
    return tiny_trainer.make_model


@pytest.fixture
def make_trainer() -> Callable[..., MultiTaskTrainer]:
    return tiny_trainer.make_trainer
