"""Whole volumes: windows, and which cases to predict."""

from mtmed.inferers.cases import inference_cases, require_checkpoint
from mtmed.inferers.ensemble import EnsembleInferer
from mtmed.inferers.ensemble_members import ensemble_members, joint_features, require_checkpoints
from mtmed.inferers.progress import CaseProgress
from mtmed.inferers.rough_lesions import RoughLesionsd
from mtmed.inferers.slices import SliceInferer
from mtmed.inferers.streaming import StreamingArgmaxInferer

__all__ = [
    "CaseProgress",
    "EnsembleInferer",
    "RoughLesionsd",
    "SliceInferer",
    "StreamingArgmaxInferer",
    "ensemble_members",
    "inference_cases",
    "joint_features",
    "require_checkpoint",
    "require_checkpoints",
]
