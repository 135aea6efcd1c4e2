"""Cases and how they reach the network."""

from mtmed.data.case import Case
from mtmed.data.check import CheckError, CheckReport, check_cases
from mtmed.data.crops import CropDataset, StepBatchSampler, collate_crops, crop_loader
from mtmed.data.distance import boundary_distance
from mtmed.data.draw import Box, Draw, GroupDraw, PatchPair, RandomCrop
from mtmed.data.label_groups import group_labels, group_names
from mtmed.data.layout import Layout, apply_layout, known_layouts, match_layout, read_layout
from mtmed.data.manifest import Cohort, Manifest, load_cohort, load_manifest, write_manifest
from mtmed.data.modalities import select_modalities
from mtmed.data.organ_labels import organ_bits
from mtmed.data.parts import Parts, split_parts
from mtmed.data.region import SIDES, Region
from mtmed.data.separate_batches import SeparateBatches
from mtmed.data.side_pair import SidePair, sided_volumes
from mtmed.data.side_regions import SideRegions
from mtmed.data.slice_count import slices_of_cases
from mtmed.data.slice_draws import AdjacentSlices, EverySlice, check_pairs
from mtmed.data.slice_features import FEATURES, feature_statistics, slice_features
from mtmed.data.splits import Split, check_split_disjoint, make_split
from mtmed.data.unlabelled_cases import unlabelled_cases, unlabelled_pool
from mtmed.data.volume_store import VolumeStore
from mtmed.data.volumes import Volume, Volumes
from mtmed.data.whole_volume_draw import VolumePart
from mtmed.data.whole_volumes import WholeVolumes

__all__ = [
    "FEATURES",
    "SIDES",
    "AdjacentSlices",
    "Box",
    "Case",
    "CheckError",
    "CheckReport",
    "Cohort",
    "CropDataset",
    "Draw",
    "EverySlice",
    "GroupDraw",
    "Layout",
    "Manifest",
    "Parts",
    "PatchPair",
    "RandomCrop",
    "Region",
    "SeparateBatches",
    "SidePair",
    "SideRegions",
    "Split",
    "StepBatchSampler",
    "Volume",
    "VolumePart",
    "VolumeStore",
    "Volumes",
    "WholeVolumes",
    "apply_layout",
    "boundary_distance",
    "check_cases",
    "check_pairs",
    "check_split_disjoint",
    "collate_crops",
    "crop_loader",
    "feature_statistics",
    "group_labels",
    "group_names",
    "known_layouts",
    "load_cohort",
    "load_manifest",
    "make_split",
    "match_layout",
    "organ_bits",
    "read_layout",
    "select_modalities",
    "sided_volumes",
    "slice_features",
    "slices_of_cases",
    "split_parts",
    "unlabelled_cases",
    "unlabelled_pool",
    "write_manifest",
]
