"""Learning signals, one file each: the views a signal reads, its head and its loss."""

from mtmed.tasks.adjacent_slice_contrast import AdjacentSliceContrast
from mtmed.tasks.contour import Contour
from mtmed.tasks.distance_map import DistanceMap
from mtmed.tasks.distillation import Distillation
from mtmed.tasks.in_painting import InPainting
from mtmed.tasks.jigsaw import Jigsaw
from mtmed.tasks.mixcl_consistency import MixCLConsistency
from mtmed.tasks.momentum_contrast import MomentumContrast
from mtmed.tasks.multi_task_model import MultiTaskModel
from mtmed.tasks.reconstruction import Reconstruction
from mtmed.tasks.rotation import Rotation
from mtmed.tasks.same_side import SameSide
from mtmed.tasks.segmentation import Segmentation
from mtmed.tasks.side_embedding import SideEmbedding
from mtmed.tasks.slice_position import SlicePosition
from mtmed.tasks.task import StepContext, Task, TaskOutput, View, ViewFeatures
from mtmed.tasks.teacher_ensemble import TeacherEnsemble
from mtmed.tasks.vicreg import VICReg

__all__ = [
    "AdjacentSliceContrast",
    "Contour",
    "DistanceMap",
    "Distillation",
    "InPainting",
    "Jigsaw",
    "MixCLConsistency",
    "MomentumContrast",
    "MultiTaskModel",
    "Reconstruction",
    "Rotation",
    "SameSide",
    "Segmentation",
    "SideEmbedding",
    "SlicePosition",
    "StepContext",
    "Task",
    "TaskOutput",
    "TeacherEnsemble",
    "VICReg",
    "View",
    "ViewFeatures",
]
