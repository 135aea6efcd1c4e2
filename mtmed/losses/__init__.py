"""Plain loss functions: tensors in, a scalar out, no networks and no files."""

from mtmed.losses.correlation import CrossCorrelationLoss, cross_correlation
from mtmed.losses.decaying_weighting import DecayingWeighting
from mtmed.losses.distillation import DistillationLoss
from mtmed.losses.foreground_bce import ForegroundBCELoss
from mtmed.losses.generalised_dice import GeneralisedDiceLoss, TruePositiveRateLoss
from mtmed.losses.gradient_similarity import GradientSimilarityWeighting
from mtmed.losses.info_nce import InfoNCELoss
from mtmed.losses.label_contrast import LabelContrastLoss, label_relation
from mtmed.losses.pair_contrast import PairContrastiveLoss, pair_distance
from mtmed.losses.pixel_sampling import PixelSample, boundary_weight, nearest_downsample, sample_pixels, take_pixels
from mtmed.losses.random_weighting import RandomWeighting
from mtmed.losses.torchjd_weighting import GradientAggregation
from mtmed.losses.vicreg import VICRegLoss, VICRegTerms
from mtmed.losses.weighting import ConstantWeighting, LinearWeighting, WeightedLoss, Weighting

__all__ = [
    "ConstantWeighting",
    "CrossCorrelationLoss",
    "DecayingWeighting",
    "DistillationLoss",
    "ForegroundBCELoss",
    "GeneralisedDiceLoss",
    "GradientAggregation",
    "GradientSimilarityWeighting",
    "InfoNCELoss",
    "LabelContrastLoss",
    "LinearWeighting",
    "PairContrastiveLoss",
    "PixelSample",
    "RandomWeighting",
    "TruePositiveRateLoss",
    "VICRegLoss",
    "VICRegTerms",
    "WeightedLoss",
    "Weighting",
    "boundary_weight",
    "cross_correlation",
    "label_relation",
    "nearest_downsample",
    "pair_distance",
    "sample_pixels",
    "take_pixels",
]
