"""A ball of CSF, grey and white matter with a ventricle, for the tests of tissue maps."""

import numpy as np
from numpy.typing import NDArray

SPACING = (4.0, 4.0, 4.0)


def tissue_ball(*, size: int = 36, noise: float = 15.0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """T1 (H W D), exactly 0 outside, and its tissue map."""
    axis = np.linspace(-1.1, 1.1, size)
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    tissue = np.select([radius < 0.2, radius < 0.65, radius < 0.85, radius < 0.97], [1, 3, 2, 1], 0).astype(np.uint8)
    t1 = np.array([0.0, 100.0, 250.0, 350.0])[tissue]
    t1 += noise * np.random.default_rng(0).standard_normal(t1.shape)
    return np.where(tissue > 0, t1, 0.0).astype(np.float32), tissue
