"""Features of the slices of stored volumes, and how they are distributed over a cohort."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtmed.data.volumes import Volume, Volumes
from mtmed.errors import InputError
from mtmed.transforms.slice_features import FEATURES, feature_table, slice_position, slice_positions

__all__ = ["FEATURES", "feature_statistics", "slice_features", "volume_features"]

logger = logging.getLogger(__name__)

_ROUNDING = 1e-4


def slice_features(volume: Volume, slice_index: int, features: Sequence[str]) -> NDArray[np.float32]:
    """Features of one slice, as they are, not standardised.

    Args:
        volume: a stored volume, slices along the first axis.
        slice_index: number of the slice, from 0.
        features: names, see `FEATURES`, or of numbers in the case's metadata.

    Returns:
        (features,); NaN where a feature is not known.
    """
    position = slice_position(slice_index, volume.shape[0])
    table = feature_table(features, positions=[position], facts=volume.facts, metadata=volume.case.metadata)
    return table.reshape(-1)


def volume_features(volume: Volume, features: Sequence[str]) -> NDArray[np.float32]:
    """Features of all slices of a volume, (slices, features); see `slice_features`."""
    positions = slice_positions(volume.shape[0])
    return feature_table(features, positions=positions, facts=volume.facts, metadata=volume.case.metadata)


def feature_statistics(volumes: Volumes, features: Sequence[str]) -> dict[str, list[float]]:
    """Mean and standard deviation of features over all slices of all volumes, for a network that standardises them.

    Unknown values are left out. Where all values are one, to a ten-thousandth of it, the deviation is given as 0: what
    then differs is how headers round, and a network can learn nothing of the feature.

    Args:
        volumes: the training cases, since what is held out must not be known.
        features: names, see `FEATURES`, or of numbers in the cases' metadata.

    Returns:
        ``mean`` and ``deviation`` (divided by n), each a number per feature.

    Raises:
        InputError: a feature is known of no volume.
    """
    tables = [volume_features(volume, features) for volume in volumes]
    table = np.concatenate(tables).astype(np.float64) if tables else np.empty((0, len(features)))
    means, deviations = [], []
    for name, column in zip(features, table.T, strict=True):
        known = column[~np.isnan(column)]
        if not len(known):
            problem = f"is known of none of the {len(volumes)} cases"
            raise InputError(f"feature {name}", problem, "give it in the metadata of the cases, or leave it out")
        means.append(float(known.mean()))
        deviation = float(known.std())
        varies = deviation > _ROUNDING * abs(means[-1])
        if not varies:
            logger.info("Feature %s is %g in all training cases; the network will not look at it", name, means[-1])
        deviations.append(deviation if varies else 0.0)
    return {"mean": means, "deviation": deviations}
