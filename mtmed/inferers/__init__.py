"""Whole volumes: windows, and which cases to predict."""

from mtmed.inferers.cases import inference_cases, require_checkpoint
from mtmed.inferers.progress import CaseProgress
from mtmed.inferers.rough_lesions import RoughLesionsd
from mtmed.inferers.streaming import StreamingArgmaxInferer

__all__ = ["CaseProgress", "RoughLesionsd", "StreamingArgmaxInferer", "inference_cases", "require_checkpoint"]
