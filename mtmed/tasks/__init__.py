"""Learning signals, one file each: the views a signal reads, its head and its loss."""

from mtmed.tasks.adjacent_slice_contrast import AdjacentSliceContrast
from mtmed.tasks.mixcl_consistency import MixCLConsistency
from mtmed.tasks.momentum_contrast import MomentumContrast
from mtmed.tasks.multi_task_model import MultiTaskModel
from mtmed.tasks.reconstruction import Reconstruction
from mtmed.tasks.same_side import SameSide
from mtmed.tasks.segmentation import Segmentation
from mtmed.tasks.side_embedding import SideEmbedding
from mtmed.tasks.slice_position import SlicePosition
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures

__all__ = [
    "AdjacentSliceContrast",
    "MixCLConsistency",
    "MomentumContrast",
    "MultiTaskModel",
    "Reconstruction",
    "SameSide",
    "Segmentation",
    "SideEmbedding",
    "SlicePosition",
    "StepContext",
    "Task",
    "TaskOutput",
    "View",
    "ViewFeatures",
]
