"""Learning signals, one file each: the views a signal reads, its head and its loss."""

from mtmed.tasks.mixcl_consistency import MixCLConsistency
from mtmed.tasks.multi_task_model import MultiTaskModel
from mtmed.tasks.reconstruction import Reconstruction
from mtmed.tasks.same_side import SameSide
from mtmed.tasks.segmentation import Segmentation
from mtmed.tasks.side_embedding import SideEmbedding
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = [
    "MixCLConsistency",
    "MultiTaskModel",
    "Reconstruction",
    "SameSide",
    "Segmentation",
    "SideEmbedding",
    "StepContext",
    "Task",
    "TaskOutput",
    "View",
    "ViewFeatures",
]
