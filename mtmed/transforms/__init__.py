"""What is done to an image: reading, resampling, batched augmentation."""

from mtmed.transforms.affine import Affine
from mtmed.transforms.elastic import Elastic
from mtmed.transforms.geometry import SpatialAugmentation
from mtmed.transforms.intensity import Gamma, GaussianNoise, GaussianSmooth, IntensityScale, IntensityShift
from mtmed.transforms.reading import LoadVolumed
from mtmed.transforms.reorientation import Flip, Rotate90
from mtmed.transforms.spacing import SeparableSpacingd
from mtmed.transforms.views import ViewMaker
from mtmed.transforms.writing import SaveLabelMapd, resample_label_to, write_nifti_label

__all__ = [
    "Affine",
    "Elastic",
    "Flip",
    "Gamma",
    "GaussianNoise",
    "GaussianSmooth",
    "IntensityScale",
    "IntensityShift",
    "LoadVolumed",
    "Rotate90",
    "SaveLabelMapd",
    "SeparableSpacingd",
    "SpatialAugmentation",
    "ViewMaker",
    "resample_label_to",
    "write_nifti_label",
]
