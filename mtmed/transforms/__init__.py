"""What is done to an image: reading, resampling, batched augmentation."""

from mtmed.transforms.affine import Affine
from mtmed.transforms.body_halves import BodyHalvesd
from mtmed.transforms.elastic import Elastic
from mtmed.transforms.geometry import SpatialAugmentation
from mtmed.transforms.heads import SplitHeadsd
from mtmed.transforms.intensity import Gamma, GaussianNoise, GaussianSmooth, IntensityScale, IntensityShift
from mtmed.transforms.kidney_sides import KidneySidesd
from mtmed.transforms.label_groups import GroupLabelsd
from mtmed.transforms.mask_resizing import ResizeMasksd
from mtmed.transforms.modality_dropout import ModalityDropout
from mtmed.transforms.predicted_masks import PredictedMasksd
from mtmed.transforms.raters import SplitRatersd
from mtmed.transforms.reading import LoadVolumed
from mtmed.transforms.relative_run_length import decode_relative_run_lengths, encode_relative_run_lengths
from mtmed.transforms.reorientation import Flip, Rotate90
from mtmed.transforms.run_length import decode_run_lengths, encode_run_lengths
from mtmed.transforms.slice_features import AppendSliceFeaturesd, ImageFactsd
from mtmed.transforms.slice_intensity import ScaleSlicesd
from mtmed.transforms.spacing import SeparableSpacingd
from mtmed.transforms.tissue_maps import MergeLesionsd, RelabelTissued, SegmentTissued, TissueChannelsd
from mtmed.transforms.tissue_segmentation import segment_tissue
from mtmed.transforms.tissue_tables import TISSUE_NAMES
from mtmed.transforms.views import ViewMaker
from mtmed.transforms.writing import SaveLabelMapd, resample_label_to, write_nifti_label

__all__ = [
    "TISSUE_NAMES",
    "Affine",
    "AppendSliceFeaturesd",
    "BodyHalvesd",
    "Elastic",
    "Flip",
    "Gamma",
    "GaussianNoise",
    "GaussianSmooth",
    "GroupLabelsd",
    "ImageFactsd",
    "IntensityScale",
    "IntensityShift",
    "KidneySidesd",
    "LoadVolumed",
    "MergeLesionsd",
    "ModalityDropout",
    "PredictedMasksd",
    "RelabelTissued",
    "ResizeMasksd",
    "Rotate90",
    "SaveLabelMapd",
    "ScaleSlicesd",
    "SegmentTissued",
    "SeparableSpacingd",
    "SpatialAugmentation",
    "SplitHeadsd",
    "SplitRatersd",
    "TissueChannelsd",
    "ViewMaker",
    "decode_relative_run_lengths",
    "decode_run_lengths",
    "encode_relative_run_lengths",
    "encode_run_lengths",
    "resample_label_to",
    "segment_tissue",
    "write_nifti_label",
]
