"""Whole volumes: windows, and which cases to predict."""

from mtmed.inferers.cases import inference_cases, require_checkpoint
from mtmed.inferers.ensemble import EnsembleInferer
from mtmed.inferers.ensemble_members import ensemble_members, joint_features, require_checkpoints
from mtmed.inferers.progress import CaseProgress
from mtmed.inferers.rough_lesions import RoughLesionsd
from mtmed.inferers.slices import SliceInferer
from mtmed.inferers.streaming import StreamingArgmaxInferer
from mtmed.inferers.whole_volume import whole_volume_inferer
from mtmed.inferers.windows import WindowInferer

__all__ = [
    "CaseProgress",
    "EnsembleInferer",
    "RoughLesionsd",
    "SliceInferer",
    "StreamingArgmaxInferer",
    "WindowInferer",
    "ensemble_members",
    "inference_cases",
    "joint_features",
    "require_checkpoint",
    "require_checkpoints",
    "whole_volume_inferer",
]
