"""The MONAI Model Zoo: its layout from a bundle and a checkpoint, and its checks."""

from mtmed.zoo.contract import check_bundle
from mtmed.zoo.export import export_bundle
from mtmed.zoo.release import release_weights
from mtmed.zoo.verified_weights import verified_weights

__all__ = ["check_bundle", "export_bundle", "release_weights", "verified_weights"]
