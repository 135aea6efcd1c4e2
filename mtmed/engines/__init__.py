"""The one multi-task trainer."""

from mtmed.engines.multi_task_trainer import MultiTaskTrainer, batch_roles
from mtmed.engines.precision import choose_precision

__all__ = ["MultiTaskTrainer", "batch_roles", "choose_precision"]
