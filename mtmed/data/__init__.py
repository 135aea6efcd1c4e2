"""Cases and how they reach the network."""

from mtmed.data.case import Case
from mtmed.data.check import CheckError, CheckReport, check_cases
from mtmed.data.crops import CropDataset, StepBatchSampler, collate_crops, crop_loader
from mtmed.data.distance import boundary_distance
from mtmed.data.draw import Box, Draw, PatchPair, RandomCrop
from mtmed.data.label_groups import group_labels, group_names
from mtmed.data.layout import Layout, apply_layout, known_layouts, match_layout, read_layout
from mtmed.data.manifest import Cohort, Manifest, load_cohort, load_manifest, write_manifest
from mtmed.data.modalities import select_modalities
from mtmed.data.region import SIDES, Region
from mtmed.data.side_pair import SidePair, sided_volumes
from mtmed.data.side_regions import SideRegions
from mtmed.data.splits import Split, check_split_disjoint, make_split
from mtmed.data.unlabelled_cases import unlabelled_cases
from mtmed.data.volume_store import VolumeStore
from mtmed.data.volumes import Volume, Volumes
from mtmed.data.whole_volume_draw import VolumePart
from mtmed.data.whole_volumes import WholeVolumes

__all__ = [
    "SIDES",
    "Box",
    "Case",
    "CheckError",
    "CheckReport",
    "Cohort",
    "CropDataset",
    "Draw",
    "Layout",
    "Manifest",
    "PatchPair",
    "RandomCrop",
    "Region",
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
    "check_split_disjoint",
    "collate_crops",
    "crop_loader",
    "group_labels",
    "group_names",
    "known_layouts",
    "load_cohort",
    "load_manifest",
    "make_split",
    "match_layout",
    "read_layout",
    "select_modalities",
    "sided_volumes",
    "unlabelled_cases",
    "write_manifest",
]
