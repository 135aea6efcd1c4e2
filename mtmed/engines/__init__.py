"""The one multi-task trainer, and the test that finds its learning rate."""

from mtmed.engines.learning_rate_finder import find_learning_rate
from mtmed.engines.multi_task_trainer import MultiTaskTrainer, batch_roles
from mtmed.engines.precision import choose_precision

__all__ = ["MultiTaskTrainer", "batch_roles", "choose_precision", "find_learning_rate"]
