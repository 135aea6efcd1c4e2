"""Cerebrospinal fluid, grey and white matter of a skull-stripped T1, by dipy's hidden Markov random field."""

import threading
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import ClusterError, kmeans2

from mtmed.errors import InputError
from mtmed.transforms.skull_stripping import why_not_skull_stripped
from mtmed.transforms.tissue_tables import CSF

__all__ = ["check_tissue_scan", "segment_tissue", "tissue_method"]

_VERSION = 1
_SMOOTHNESS = 0.1
_TOLERANCE = 1e-4
_MOST_ITERATIONS = 100
_CLASSES = 3
_ONE_AT_A_TIME = threading.Lock()  # dipy keeps the interpreter's lock, so threads would only cost memory
_FENCE = 1.5  # interquartile ranges beyond the quartiles, as in Tukey's box plots
_QUANTILES = 1000
# on the scale 0 to 1 that dipy works on, where the means of the classes are about 0.25 apart:
_DARKEST = 0.02
_LEAST_NOISE = 0.01  # without any (synthetic scans), dipy divides 0 by 0 at voxels between classes
_BACKGROUND, _BACKGROUND_NOISE = 0.001, 0.0001  # as dipy has it


def tissue_method() -> str:
    """What decides the result beside the scan: the version of the procedure and of dipy.

    Raises:
        InputError: dipy is not installed.
    """
    try:
        version = metadata.version("dipy")
    except metadata.PackageNotFoundError as error:
        raise _dipy_is_missing() from error
    return f"hmrf {_VERSION} smoothness {_SMOOTHNESS} tolerance {_TOLERANCE} dipy {version}"


def segment_tissue(t1: NDArray[Any], *, spacing: Sequence[float], name: object = "T1") -> NDArray[np.uint8]:
    """Tissue map of a skull-stripped T1.

    dipy's ``TissueClassifierHMRF`` (Zhang, Brady, Smith 2001, Segmentation of brain MR images through a hidden Markov
    random field model): Gaussian intensities of three classes and a background, a Potts prior over the six neighbours
    with weight 0.1, at most 100 rounds of expectation maximisation and iterated conditional modes. The classes come by
    rising intensity, so the scan must be T1-weighted. It has no model of inhomogeneity; correct the scan with N4 first.

    Before that, intensities beyond 1.5 interquartile ranges from the brain's quartiles are clipped, and the scale is
    set so that dipy's uniform first guess separates the classes where three means do. So the result does not depend
    on scale and offset of the intensities, and little on bright outliers or negative ringing at the brain's edge.
    A little fixed noise is added, and the background gets fixed noise where dipy would draw its own, so that the same
    scan gives the same map.

    At 1 mm it takes about 10 to 15 seconds of one core and 1.2 to 1.8 GB of memory for a brain; the threads of
    one process take turns.

    Args:
        t1: H W D, exactly 0 outside of the brain, any linear scale.
        spacing: size of a voxel along each axis, mm.
        name: what errors call the scan.

    Returns:
        H W D: 0 outside, 1 CSF, 2 grey matter, 3 white matter. Voxels of 0 that the brain encloses are CSF.

    Raises:
        InputError: dipy is not installed; the scan is empty, constant or not finite, has fewer than three intensities,
            or is not skull-stripped (see `mtmed.transforms.skull_stripping`).
    """
    try:
        from dipy.segment.tissue import TissueClassifierHMRF
    except ImportError as error:
        raise _dipy_is_missing() from error
    check_tissue_scan(t1, spacing=spacing, name=name)
    brain = t1 != 0
    box = ndimage.find_objects(brain.astype(np.uint8))[0]
    brain = brain[box]
    scaled = _to_dipy_scale(t1[box], brain, name)
    options = {"tolerance": _TOLERANCE, "max_iter": _MOST_ITERATIONS}
    with _ONE_AT_A_TIME:
        _, classes, _ = TissueClassifierHMRF(verbose=False).classify(scaled, _CLASSES, _SMOOTHNESS, **options)
    inside = ndimage.binary_fill_holes(brain)
    tissue = np.zeros(t1.shape, np.uint8)
    tissue[box] = np.where(inside, np.maximum(classes, CSF), 0)
    return tissue


def _dipy_is_missing() -> InputError:
    return InputError("dipy", "is not installed; tissue maps need it", 'python -m pip install "mtmed[tissue]"')


def check_tissue_scan(t1: NDArray[Any], *, spacing: Sequence[float], name: object = "T1") -> None:
    """Refuse a scan that `segment_tissue` would refuse at first sight.

    Args:
        t1: H W D.
        spacing: size of a voxel along each axis, mm.
        name: what errors call the scan.

    Raises:
        InputError: the scan is empty, constant or not finite, or is not skull-stripped.
    """
    if t1.ndim != 3:
        raise ValueError(f"t1 has shape {t1.shape}, expected H W D.")
    if not np.isfinite(t1).all():
        raise InputError(name, "holds values that are not finite", "mend the scan")
    if t1.size == 0 or t1.min() == t1.max():
        problem = "is empty" if t1.size == 0 or t1.flat[0] == 0 else f"is {t1.flat[0]:g} everywhere"
        raise InputError(name, f"{problem}, so that it shows no tissue", "check the file")
    reason = why_not_skull_stripped(t1, spacing=spacing)
    if reason:
        remedy = 'run HD-BET or SynthStrip and set the outside to 0, or give tissue maps (tissue: "files")'
        raise InputError(name, f"is not skull-stripped: {reason}", remedy)


def _to_dipy_scale(t1: NDArray[Any], brain: NDArray[np.bool_], name: object) -> NDArray[np.float64]:
    """Scale to 0..1 with the borders between three means at 3/8 and 5/8, where dipy's first guess has them."""
    voxels = t1[brain].astype(np.float64)
    lower, upper = np.quantile(voxels, [0.25, 0.75])
    reach = _FENCE * (upper - lower)
    levels = np.quantile(np.clip(voxels, lower - reach, upper + reach), (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    distinct = np.unique(levels)
    if len(distinct) < _CLASSES:
        raise InputError(name, "has fewer than three intensities, so that it shows no tissue", "check the file")
    first_guess = distinct[[len(distinct) // 6, len(distinct) // 2, len(distinct) * 5 // 6], None]
    try:
        centres, _ = kmeans2(levels[:, None], first_guess, iter=100, minit="matrix", missing="raise")
    except ClusterError as error:
        problem = "has no three groups of intensities, so that it shows no tissue"
        raise InputError(name, problem, "check the file") from error
    means = np.sort(centres[:, 0])
    dark, bright = (means[:-1] + means[1:]) / 2
    scaled = 0.375 + 0.25 * (t1.astype(np.float64) - dark) / (bright - dark)
    # the key is fixed: the noise is part of the method
    noise = np.random.Generator(np.random.Philox(key=_VERSION)).standard_normal(t1.shape)
    tissue = np.clip(np.clip(scaled, _DARKEST, 1.0) + _LEAST_NOISE * noise, _DARKEST, 1.0)
    scaled = np.where(brain, tissue, _BACKGROUND + _BACKGROUND_NOISE * noise)
    # dipy counts its first means from 0 to the largest value
    scaled.flat[np.argmax(np.where(brain, scaled, 0))] = 1.0
    return scaled
