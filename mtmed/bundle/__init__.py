"""What a MONAI bundle of mtmed calls in its expressions: its folder, its checks, its network."""

from mtmed.bundle import messages
from mtmed.bundle.active import active_parser, command_line, literal
from mtmed.bundle.carried_setting import require_carried
from mtmed.bundle.channel_check import require_channels
from mtmed.bundle.choice import require_choice
from mtmed.bundle.combination import notice_unused, refuse_combination
from mtmed.bundle.data_check import check_data
from mtmed.bundle.foreground_check import notice_lacking_foreground, require_foreground, require_reference
from mtmed.bundle.image_size import require_image_size
from mtmed.bundle.input_check import check_inputs
from mtmed.bundle.joining import join
from mtmed.bundle.leaving import leave
from mtmed.bundle.name_list import require_names
from mtmed.bundle.network import network
from mtmed.bundle.number_list import require_numbers
from mtmed.bundle.options import check_options
from mtmed.bundle.patch_size import require_patch_size
from mtmed.bundle.pretraining import pretraining
from mtmed.bundle.required_maps import require_maps
from mtmed.bundle.required_settings import require_settings
from mtmed.bundle.rough_networks import rough_networks
from mtmed.bundle.run_folder import finish_run, run_folder, start_run
from mtmed.bundle.seen_patients import patient_digests, patients_of, refuse_other_labels, refuse_seen_patients
from mtmed.bundle.side_report import report_sides
from mtmed.bundle.tissue_check import check_tissue_input
from mtmed.bundle.validation_pairs import require_validation_pairs

__all__ = [
    "active_parser",
    "check_data",
    "check_inputs",
    "check_options",
    "check_tissue_input",
    "command_line",
    "finish_run",
    "join",
    "leave",
    "literal",
    "network",
    "notice_lacking_foreground",
    "notice_unused",
    "patient_digests",
    "patients_of",
    "pretraining",
    "refuse_combination",
    "refuse_other_labels",
    "refuse_seen_patients",
    "report_sides",
    "require_carried",
    "require_channels",
    "require_choice",
    "require_foreground",
    "require_image_size",
    "require_maps",
    "require_names",
    "require_numbers",
    "require_patch_size",
    "require_reference",
    "require_settings",
    "require_validation_pairs",
    "rough_networks",
    "run_folder",
    "start_run",
]

# here and not in start_run, because what that item of ``run`` refers to is evaluated before it
messages.install()
