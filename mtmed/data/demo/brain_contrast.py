"""What a scanner makes of a brain: FLAIR, T1, T2 and PD images from tissue fractions."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from mtmed.data.demo.shapes import Field, Mask, smooth_noise

__all__ = ["MODALITIES", "Voxels", "paint_image"]

MODALITIES = ("FLAIR", "T1", "T2", "PD")


@dataclass(frozen=True)
class _Contrast:
    """Signal of each tissue, relative to the scan's scale; `lesion` is that of a lesion of average strength."""

    fluid: float
    grey: float
    white: float
    lesion: float


_CONTRASTS = {
    "FLAIR": _Contrast(0.16, 0.63, 0.53, 0.98),
    "T1": _Contrast(0.28, 0.68, 1.00, 0.66),
    "T2": _Contrast(1.00, 0.50, 0.37, 0.72),
    "PD": _Contrast(1.00, 0.86, 0.70, 0.97),
}


@dataclass(frozen=True)
class Voxels:
    """What the voxels of an image hold; all arrays have the image's shape.

    Attributes:
        fluid: fraction of cerebrospinal fluid.
        grey: fraction of grey matter.
        white: fraction of white matter, lesions included.
        myelin: fraction of grey matter that is half-way to white in contrast.
        bright: lesion fraction times the lesions' strength on FLAIR, T2 and PD.
        dark: lesion fraction times the lesions' strength on T1.
        inside: the brain with its fluid.
        filling: how much of the voxel is `inside`, 0 to 1.
    """

    fluid: Field
    grey: Field
    white: Field
    myelin: Field
    bright: Field
    dark: Field
    inside: Mask
    filling: Field


def paint_image(voxels: Voxels, modality: str, generator: np.random.Generator) -> Field:
    """One image: contrast, texture, blur, what is left of the bias field, noise, and skull stripping.

    Outside the brain it is exactly 0. Voxels at the rim that are half filled come out dim, and the least filled ones
    slightly negative, as where a stripped edge was interpolated.

    Args:
        voxels: what is imaged.
        modality: one of `MODALITIES`.
        generator: scanner settings and noise of this image.
    """
    contrast = _CONTRASTS[modality]
    shape = voxels.inside.shape
    fluid, grey, white, lesion = (
        np.float32(value * generator.normal(1.0, 0.03))
        for value in (contrast.fluid, contrast.grey, contrast.white, contrast.lesion)
    )
    image = fluid * voxels.fluid + grey * voxels.grey + white * voxels.white
    image += np.float32(0.4) * (white - grey) * voxels.myelin
    strength = voxels.dark if modality == "T1" else voxels.bright
    # around a lesion the white matter is not quite normal either
    image += (lesion - white) * (strength + 0.12 * gaussian_filter(strength, 1.3) * voxels.white)
    image *= 1 + 0.02 * smooth_noise(generator, shape, 18)
    image = gaussian_filter(image, 0.3)
    bias = smooth_noise(generator, shape, 4)
    image *= np.exp(np.float32(generator.uniform(0.02, 0.05)) * bias)
    noise = gaussian_filter(generator.standard_normal(shape, dtype=np.float32), 0.45)
    image += np.float32(generator.uniform(0.022, 0.035) / noise.std()) * noise
    edge = np.clip((voxels.filling - 0.51) / 0.25, -0.04, 1)
    image = np.float32(400 * np.exp(generator.uniform(-0.4, 0.4))) * np.maximum(image, 0.02) * edge
    return np.asarray(np.where(voxels.inside, image, 0), dtype=np.float32)
