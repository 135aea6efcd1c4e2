"""What messages call an image."""

import torch
from monai.data import MetaTensor

__all__ = ["image_name"]


def image_name(image: torch.Tensor) -> str:
    """File of an image, or of the first of a batch, as its meta data say; ``"image"`` where they do not."""
    name = image.meta.get("filename_or_obj", "image") if isinstance(image, MetaTensor) else "image"
    return str(name[0] if isinstance(name, list | tuple) else name)
