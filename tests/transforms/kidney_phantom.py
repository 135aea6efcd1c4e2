"""Bodies and kidneys as ellipsoids, stated in patient millimetres (x right, y anterior, z superior) on any grid."""

from collections.abc import Sequence

import numpy as np
from monai.data import MetaTensor

RAS = np.diag([4.0, 4.0, 4.0, 1.0])
LEFT = ((-70.0, -20.0, 5.0), (28.0, 24.0, 50.0))
RIGHT = ((65.0, -25.0, -10.0), (30.0, 26.0, 46.0))
BODY = ((0.0, 0.0, 0.0), (170.0, 110.0, 1e4))
EXTENT = np.array([220.0, 140.0, 90.0])  # mm around 0 that every grid covers

Ellipsoid = tuple[tuple[float, float, float], tuple[float, float, float]]


def grid(directions: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a grid with these 3 x 3 directions (mm per voxel) around 0 that covers the extent."""
    corners = np.stack(np.meshgrid(*[(-e, e) for e in EXTENT], indexing="ij"), -1).reshape(-1, 3)
    reach = np.abs(np.linalg.solve(directions, corners.T)).max(1)
    shape = tuple(int(n) for n in 2 * np.ceil(reach) + 1)
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = -directions @ ((np.array(shape) - 1) / 2)
    return shape, affine


def inside(ellipsoids: Sequence[Ellipsoid], shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """Which voxels lie in one of the ellipsoids."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    found = np.zeros(shape, bool)
    for centre, radii in ellipsoids:
        found |= (((place - np.array(centre)) / np.array(radii)) ** 2).sum(-1) < 1
    return found


def phantom(*kidneys: Ellipsoid, directions: np.ndarray = RAS[:3, :3], shift: float = 0.0):
    """CT in HU, kidney label and affine; ``shift`` moves the whole patient to the right, mm."""
    shape, affine = grid(directions)
    moved = affine.copy()
    moved[0, 3] -= shift
    image = np.where(inside([BODY], shape, moved), 40.0, -1000.0).astype(np.float32)
    return image, inside(kidneys, shape, moved).astype(np.uint8), affine


def sample(image: np.ndarray, label: np.ndarray, affine: np.ndarray) -> dict[str, MetaTensor]:
    return {"image": MetaTensor(image[None], affine=affine), "label": MetaTensor(label[None], affine=affine)}


def value_at(volume: MetaTensor, place: Sequence[float]) -> int:
    """Value of the voxel at a place in the patient, mm."""
    affine = np.asarray(volume.affine)
    index = np.rint(np.linalg.solve(affine, [*place, 1.0])[:3]).astype(int)
    return int(volume[(0, *index)])
