"""Does a modality look like what it is called? A warning from the order of intensities.

In T1 white matter is brighter than cortex; in FLAIR, T2 and PD it is not. White matter lies deep, cortex near the
surface, so no segmentation is needed: w is the chance that a voxel 9 to 20 mm deep is brighter than one 2 to 5 mm deep
(the area under the ROC curve), without the darkest tenth (mostly fluid) and the brightest twentieth (vessels, lesions).

Measured at 1 mm and averaged to 3 mm: T1 0.65 to 0.90 (four brains: two of multiple sclerosis, one unaffected, MNI152),
T1 with tumours after contrast agent 0.58 to 0.71 (two), FLAIR 0.42 to 0.52 (two of multiple sclerosis, two with
tumours), T2 0.36 to 0.44 (two); 40 ml of lesions painted into the patients' images move w by 0.05 at most. T1 of
infants before myelination has the opposite contrast.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from mtmed.transforms.skull_stripping import brain_depth, subsample, why_not_brain_alone

__all__ = ["contrast_warnings", "white_matter_brightness"]

_NEAR_SURFACE, _DEEP = (2.0, 5.0), (9.0, 20.0)  # mm
_DARK, _BRIGHT = 0.10, 0.95  # quantiles
_FEWEST = 100  # voxels of a layer
_T1_LIKE, _NOT_T1_LIKE = 0.60, 0.56
_MODALITIES_LIKE_FLAIR = ("FLAIR", "T2", "PD")


def contrast_warnings(images: Mapping[str, NDArray[Any]], *, spacing: Sequence[float]) -> list[str]:
    """Warn of a T1 that looks like FLAIR or T2, and of a FLAIR, T2 or PD that looks like T1.

    FLAIR, T2 and PD are not told apart. Nothing is said of other names, of scans that are not skull-stripped or too
    small, and between the two thresholds (w below 0.56 is no T1, above 0.60 is one).

    Args:
        images: scan by the name of its modality, each H W D on one grid, exactly 0 outside of the brain.
        spacing: size of a voxel along each axis, mm.

    Returns:
        One line for each doubtful modality; empty if all look as they should.
    """
    brightness = {
        modality: white_matter_brightness(image, spacing=spacing)
        for modality, image in images.items()
        if modality == "T1" or modality in _MODALITIES_LIKE_FLAIR
    }
    warnings = []
    for modality, chance in brightness.items():
        measured = f"(deep voxels brighter than those near the surface: {chance:.0%})"
        if modality == "T1" and chance < _NOT_T1_LIKE:
            looks = "looks like FLAIR or T2: white matter is not brighter than cortex"
        elif modality != "T1" and chance > _T1_LIKE:
            looks = "looks like T1: white matter is brighter than cortex"
        else:
            continue
        warnings.append(f"{modality} {looks} {measured}; check the order of the modalities")
    return warnings


def white_matter_brightness(image: NDArray[Any], *, spacing: Sequence[float]) -> float:
    """Chance w that a deep voxel is brighter than one near the brain's surface; ties count half.

    Args:
        image: H W D, exactly 0 outside of the brain.
        spacing: size of a voxel along each axis, mm.

    Returns:
        0 to 1; NaN if the image is not skull-stripped, or either layer has fewer than 100 voxels on a grid of 2 mm.
    """
    coarse, sampling = subsample(image, spacing=spacing)
    if not np.isfinite(coarse).all() or why_not_brain_alone(coarse, spacing=sampling):
        return float("nan")
    depth = brain_depth(coarse, spacing=sampling)
    if not depth.any():
        return float("nan")
    inside = depth > 0
    depth = depth - min(sampling) / 2  # the surface lies between the centres of two voxels
    dark, bright = np.quantile(coarse[inside], [_DARK, _BRIGHT])
    kept = inside & (coarse > dark) & (coarse < bright)
    surface, deep = (coarse[kept & (depth > least) & (depth <= most)] for least, most in (_NEAR_SURFACE, _DEEP))
    if min(len(surface), len(deep)) < _FEWEST:
        return float("nan")
    return float(mannwhitneyu(deep, surface, method="asymptotic").statistic) / (len(deep) * len(surface))
