"""The MONAI Model Zoo: its layout from a bundle and a checkpoint, and its checks."""

from mtmed.zoo.contract import check_bundle
from mtmed.zoo.export import export_bundle

__all__ = ["check_bundle", "export_bundle"]
