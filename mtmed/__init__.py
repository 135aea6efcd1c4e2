"""mtmed: which second learning signal helps when labels for medical image segmentation are scarce."""

__version__ = "0.1.0"
