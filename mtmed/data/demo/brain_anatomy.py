"""A brain built from random numbers: how much cerebrospinal fluid, grey and white matter each voxel holds.

Patient coordinates are millimetres in RAS+ (x grows to the patient's right, y to the front, z to the head) with the
origin near the anterior commissure, as in MNI space. The parts are implicit surfaces. The cortex is the outermost sheet
of the hemispheres, folded along the zero set of a random wave field on their surface: that set is a labyrinth of lines
at an even distance, as the sulci are.

Left and right differ as they do in people: the right frontal and the left occipital lobe reach further (petalia), and
the left lateral ventricle is wider.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from mtmed.data.demo.shapes import Field, Mask, Space, smooth_noise

__all__ = ["CORTEX_MM", "Brain", "paint_brain"]

CORTEX_MM = 3.0
_FOLD_WAVELENGTH_MM = 25.0  # two gyri
_WAVES = 40


@dataclass(frozen=True)
class Brain:
    """A brain on a fine grid; all arrays have the same shape.

    Attributes:
        cerebrospinal_fluid: fraction of the voxel, 0 to 1; the three fractions add up to `inside`.
        grey_matter: cortex and deep nuclei.
        white_matter: everything else of the brain.
        inside: 1 within the brain with its fluid, 0 outside.
        ventricle_distance: mm from the nearest lateral ventricle.
        cortex_distance: mm from the inner surface of the cortex into the white matter; negative elsewhere.
        myelin: how far grey matter is on its way to white in contrast; above 0 in thalamus and pallidum.
    """

    cerebrospinal_fluid: Field
    grey_matter: Field
    white_matter: Field
    inside: Field
    ventricle_distance: Field
    cortex_distance: Field
    myelin: Field


def paint_brain(points: Field, spacing: float, generator: np.random.Generator) -> Brain:
    """Draw a person's brain.

    Args:
        points: shape (3, H, W, D): patient coordinates of the voxels, mm, RAS+.
        spacing: distance of neighbouring voxels, mm.
        generator: source of all variation between people.
    """
    shape = points.shape[1:]
    scale = generator.uniform((0.95, 0.95, 0.95), (1.04, 1.04, 1.04))
    atrophy = float(generator.uniform(0.0, 1.0))
    x, y, z = (
        (points[axis] / np.float32(scale[axis]) + 1.8 * smooth_noise(generator, shape, 5)).astype(np.float32)
        for axis in range(3)
    )
    # petalia: the right hemisphere lies further to the front, and the left occipital lobe bends over the midline
    y -= 2.5 * np.tanh(x / 12)
    x -= 3.0 * np.clip((-y - 40) / 60, 0, 1) ** 2
    rough = smooth_noise(generator, shape, 16)
    space = Space(np.abs(x), y, z, rough)
    on_left = x < 0

    cerebrum, outline = _cerebrum(space)
    cerebellum = np.minimum(
        space.blob((21, -64, -37), (32, 30, 21), tilt=0.3, rough=0.05), space.blob((0, -66, -34), (14, 25, 23))
    )
    stem = space.tube([(0, -18, -8, 15), (0, -25, -30, 15), (0, -31, -44, 12), (0, -40, -72, 8)], rough=0.05)
    stem = np.minimum(stem, space.tube([(0, -20, -4, 12), (16, -14, 2, 12)], rough=0.05))
    parenchyma = cerebrum | (cerebellum < 1) | (stem < 1)
    filled = outline | (cerebellum < 1.06) | (stem < 1.15)
    # the blurred outline falls by about a quarter per fine voxel at its edge
    cover = gaussian_filter(filled.astype(np.float32), 2.4 / spacing)
    inside = np.clip(0.5 + 4 * (cover - np.float32(0.27 - 0.06 * atrophy)), 0, 1)

    cortex = _cortex(cerebrum, points, spacing, generator, atrophy)
    grey_cover = np.clip(0.5 + (CORTEX_MM - cortex) / spacing, 0, 1)
    fluid = np.where(cerebrum, np.clip(0.5 - cortex / spacing, 0, 1), np.where(parenchyma, 0, 1)).astype(np.float32)

    # the cerebellum is grey with folia too thin to see, but for a tree of white matter in its middle
    folia = np.where(cerebellum < 0.34 + 0.22 * np.cos((np.hypot(y + 40, z + 34) + 2 * rough) * 0.55), 0.0, 1.0)
    grey_cover = np.where(cerebrum, grey_cover, np.where(cerebellum < 1, folia, 0)).astype(np.float32)
    fluid[(cerebellum > 0.86 + 0.1 * rough) & (cerebellum < 1) & (np.abs(np.sin(z * 0.42 + 0.08 * y)) > 0.93)] = 0.6

    deep = space.within(central := _central(space))
    white_core, nuclei, myelinated, lateral, other_fluid = _deep_parts(deep, on_left[central], atrophy, fluid[central])
    grey_cover[central] = np.where(white_core, 0, np.where(nuclei | myelinated, 1, grey_cover[central]))
    fluid[central] = np.where(white_core | nuclei | myelinated, 0, fluid[central])
    fluid[central] = np.where(lateral | other_fluid, 1, fluid[central])
    myelin = np.zeros(shape, dtype=np.float32)
    myelin[central] = myelinated
    cortex[central] = np.where(nuclei | myelinated | white_core, -1, cortex[central])

    ventricles = np.zeros(shape, dtype=bool)
    ventricles[central] = lateral
    # anti-aliasing of what was drawn in or out
    fluid = inside * gaussian_filter(fluid, 0.35)
    grey = (inside - fluid) * gaussian_filter(grey_cover, 0.35)
    return Brain(
        cerebrospinal_fluid=fluid,
        grey_matter=grey,
        white_matter=inside - fluid - grey,
        inside=inside,
        ventricle_distance=np.asarray(distance_transform_edt(~ventricles) * spacing, dtype=np.float32),
        cortex_distance=np.where(cerebrum, cortex - CORTEX_MM, -1).astype(np.float32),
        myelin=myelin,
    )


def _cerebrum(space: Space) -> tuple[Mask, Mask]:
    """Both hemispheres without their inner parts, and the same without fissures."""
    x, y, z, rough = space.x, space.y, space.z, space.rough
    taper = 1 - 0.10 * np.clip(y / 70, 0, 1.2) ** 2 - 0.13 * np.clip((-y - 30) / 70, 0, 1.2) ** 2
    egg = (x / (67 * taper)) ** 2.3 + (np.abs(y + 17) / 88) ** 2.3 + (np.abs(z - 14) / 63) ** 2.3 + 0.04 * rough
    # frontal base, and the tentorium that carries the occipital lobes
    base = np.where(y > -12, -20 + 0.0035 * np.maximum(y - 20, 0) ** 2, -20 - 0.42 * (y + 12))
    tentorium = -13 + 0.28 * (y + 95) - 0.35 * np.maximum(x - 8, 0)
    base = np.where(y < -12, np.minimum(base, tentorium), base)
    upper = (egg < 1) & (z > base)
    temporal = space.tube([(40, 14, -27, 18), (48, -8, -24, 20), (51, -34, -14, 21), (46, -58, -4, 22)], rough=0.05)
    outline = upper | (temporal < 1)
    # Sylvian fissure: the cleft above the temporal lobe down to the insula
    reach = np.sqrt(np.maximum(temporal, 0))
    cleft = (reach > 1.0) & (reach < 1.17) & (x > 35) & (y > -42) & (z < 14)
    cleft |= (x > 35) & (x < 38) & (y > -16) & (y < 22) & (z > -12) & (z < 10)
    callosal = ((y + 8) / 40) ** 2 + ((z - 4) / 23) ** 2
    fissure = (x < 1.0 + 0.3 * rough) & (callosal > 1) & ((z > -2) | (y > 14) | (y < -44))
    chiasm = space.blob((0, 2, -24), (17, 16, 12)) < 1
    return outline & ~cleft & ~fissure & ~chiasm, outline


def _cortex(cerebrum: Mask, points: Field, spacing: float, generator: np.random.Generator, atrophy: float) -> Field:
    """Distance in mm from the pial surface, sulci included; negative within a sulcus."""
    shape = cerebrum.shape
    depth, nearest = distance_transform_edt(cerebrum, return_indices=True)
    depth = np.asarray((depth - 0.5) * spacing, dtype=np.float32)
    valley = 17 + 4 * smooth_noise(generator, shape, 9)
    width = 0.4 + 0.5 * atrophy + 0.3 * smooth_noise(generator, shape, 9)
    shell = cerebrum & (depth < 26)
    # the waves are read near the foot of each voxel on the surface, so that sulci stand upright on it
    here = points[:, shell]
    origin = points[:, 0, 0, 0][:, None]
    foot = nearest[:, shell].astype(np.float32) * np.float32(spacing) + origin
    along = here + np.float32(0.75) * (foot - here)
    along[0] += np.float32(60) * (here[0] < 0)  # the hemispheres are folded independently
    across = _distance_to_folds(along, generator)
    # a sulcus is a sheet that ends at its valley and opens towards the surface
    opening = width[shell] + np.float32(0.5) * np.clip(1 - depth[shell] / 5, 0, 1)
    floor = np.where(np.abs(foot[0]) < 6, 0.55, 1.0) * valley[shell]  # shallower on the medial wall
    sulcus = np.hypot(np.maximum(depth[shell] - floor, 0), across) - np.maximum(opening, 0.1)
    distance = depth.copy()
    distance[shell] = np.minimum(depth[shell], sulcus)
    return np.asarray(np.where(cerebrum, distance, -1), dtype=np.float32)


def _distance_to_folds(points: Field, generator: np.random.Generator) -> Field:
    """Distance in mm of points (3, N) from the zero set of a random wave field: its value over its slope."""
    direction = generator.normal(size=(_WAVES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = _FOLD_WAVELENGTH_MM * generator.uniform(0.85, 1.2, size=(_WAVES, 1))
    number = (2 * np.pi / length * direction).astype(np.float32)
    phase = generator.uniform(0, 2 * np.pi, size=_WAVES).astype(np.float32)
    wave = np.zeros(points.shape[1], dtype=np.float32)
    slope = np.zeros_like(points)
    for k, start in zip(number, phase, strict=True):
        angle = k[0] * points[0] + k[1] * points[1] + k[2] * points[2] + start
        wave += np.cos(angle)
        sine = np.sin(angle)
        for axis in range(3):
            slope[axis] -= k[axis] * sine
    steep = np.sqrt((slope**2).sum(axis=0))
    # where the field is flat it is far from a line, however small it is
    return np.asarray(np.abs(wave) / np.maximum(steep, np.float32(0.8) * steep.mean()), dtype=np.float32)


def _central(space: Space) -> Mask:
    """A box around everything that lies deep, to spare the rest of the grid."""
    return (space.x < 50) & (space.y > -88) & (space.y < 48) & (space.z > -52) & (space.z < 36)


def _deep_parts(space: Space, on_left: Mask, atrophy: float, fluid: Field) -> tuple[Mask, Mask, Mask, Mask, Mask]:
    """Callosum and capsules, plain nuclei, myelinated nuclei, lateral ventricles, other fluid; voxels as a list."""
    x, y, z = space.x, space.y, space.z
    size = (0.92 + 0.35 * atrophy) * np.where(on_left, 1.12, 0.96)

    def ventricle(*knots: tuple[float, float, float, float]) -> Field:
        return np.asarray(space.tube(knots, rough=0.1) / size**2, dtype=np.float32)

    lateral = ventricle((6, 32, 4, 3.2), (8, 20, 10, 5.0), (9, 0, 17, 4.8), (14, -24, 18, 5.2), (25, -40, 11, 6.2)) < 1
    lateral |= ventricle((25, -40, 11, 6.2), (25, -58, 6, 4.4), (21, -76, 4, 2.0)) < 1
    lateral |= ventricle((25, -40, 11, 5.5), (33, -32, -6, 3.0), (31, -10, -20, 2.6)) < 1
    lateral &= x > 1.2  # septum pellucidum
    third = (x < 1.6 + 1.2 * atrophy) & (space.blob((0, -9, 0), (30, 17, 11)) < 1)
    cistern = space.blob((0, -36, -4), (14, 7, 9)) < 1
    fourth = space.blob((0, -43, -35), (6, 6, 12)) < 1
    fourth |= space.tube([(0, -33, -8, 1.8), (0, -40, -28, 2.5)]) < 1  # aqueduct

    arch = ((y + 8) / 40) ** 2 + ((z - 4) / 23) ** 2
    callosum = (arch < 1.02) & (arch > 0.56) & (x < 16) & (z > -3)
    fornix = (x < 3) & (arch < 0.56) & (z > 8) & (y > -30)
    peduncle = space.tube([(20, -8, 14, 5), (14, -14, -6, 6), (8, -22, -20, 6), (6, -27, -34, 6)]) < 1
    pons = space.blob((0, -25, -32), (15, 13, 15)) < 1
    medulla = (space.tube([(0, -31, -44, 12), (0, -40, -72, 8)]) < 0.8) | (space.blob((0, -24, -12), (14, 10, 9)) < 0.8)

    caudate = space.tube([(12, 22, 2, 6.5), (15, 10, 12, 5.2), (17, -8, 20, 3.6), (21, -26, 20, 2.4)]) < 1
    putamen = space.blob((27.5, 2, 1), (5.2, 17, 10), tilt=-0.2) < 1
    insula_border = space.blob((27.5, 0, 2), (8.6, 22, 16), tilt=-0.2) < 1  # external capsule
    hippocampus = space.tube([(24, -10, -21, 6), (28, -22, -16, 5), (25, -38, -4, 3.4)]) < 1
    pallidum = space.blob((20, -2, -1), (4.2, 9, 7), tilt=-0.3) < 1
    thalamus = space.blob((11.5, -18, 7), (9.5, 14, 9.5), lean=0.15) < 1

    open_space = lateral | third | cistern | fourth
    myelinated = (thalamus | pallidum) & ~open_space
    nuclei = (caudate | putamen | hippocampus) & ~open_space & ~myelinated
    core = callosum | fornix | peduncle | pons | medulla | (insula_border & (fluid < 0.5) & (x < 34))
    return core & ~open_space & ~nuclei & ~myelinated, nuclei, myelinated, lateral, third | cistern | fourth
