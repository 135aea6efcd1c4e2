"""MS lesions: ovoid, in white matter only, mostly beside the ventricles, growing and appearing from visit to visit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as connected_components

from mtmed.data.demo.brain_anatomy import Brain
from mtmed.data.demo.shapes import Field, Mask, smooth_noise

__all__ = ["Lesion", "LesionMaps", "draw_lesions", "paint_lesions", "rater_mask"]

_SMALLEST_MM = 2.3  # radius
_PLACES = {"periventricular": 0.6, "deep": 0.2, "juxtacortical": 0.2}


@dataclass(frozen=True)
class Lesion:
    """One lesion.

    Attributes:
        centre: voxel of the fine grid.
        axes: shape (3, 3): rows are the unit vectors of the half-axes.
        radii: half-axes at the first visit, mm.
        growth: factor on the radii from one visit to the next.
        onset: first visit, from 0.
        brightness: strength on FLAIR, T2 and PD, about 1.
        darkness: strength on T1, about 1; above 1 is a black hole.
    """

    centre: NDArray[np.int64]
    axes: NDArray[np.float32]
    radii: NDArray[np.float32]
    growth: float
    onset: int
    brightness: float
    darkness: float


@dataclass(frozen=True)
class LesionMaps:
    """Lesions of a visit on the brain's grid.

    Attributes:
        fraction: how much of the voxel is lesion, 0 to 1, never above its white matter.
        bright: fraction times brightness.
        dark: fraction times darkness.
    """

    fraction: Field
    bright: Field
    dark: Field


def draw_lesions(
    brain: Brain, spacing: float, load_ml: float, visits: int, generator: np.random.Generator
) -> tuple[Lesion, ...]:
    """Draw a person's lesions.

    Args:
        brain: where they lie.
        spacing: of the brain's grid, mm.
        load_ml: volume of all lesions at the first visit.
        visits: number of visits; each later one has one new lesion or more.
        generator: source of the variation.
    """
    candidates = _candidates(brain)
    gradient = np.gradient(gaussian_filter(brain.ventricle_distance, 2.0))
    wanted = load_ml * 1000
    lesions: list[Lesion] = []
    occupied = np.zeros(brain.inside.shape, dtype=bool)
    volume = 0.0
    while volume < 0.97 * wanted and len(lesions) < 400:
        # a few large lesions and many small ones; the last fill up what is missing
        largest = np.cbrt(0.24 * (wanted - volume) * 1.2)
        radius = min(3.0 * np.exp(generator.normal(0.0, 0.45)) * (1 + load_ml / 14) ** 0.6, largest)
        lesion = _lesion(candidates, gradient, max(radius, _SMALLEST_MM), 0, occupied, generator)
        volume += float(_stamp(lesion, brain, spacing, 0, occupied).sum()) * spacing**3
        lesions.append(lesion)
    for visit in range(1, visits):
        for _ in range(1 + int(generator.integers(0, 2)) + len(lesions) // 20):
            radius = max(_SMALLEST_MM, float(generator.uniform(2.3, 3.4)))
            lesion = _lesion(candidates, gradient, radius, visit, occupied, generator)
            _stamp(lesion, brain, spacing, visit, occupied)
            lesions.append(lesion)
    return tuple(lesions)


def paint_lesions(brain: Brain, spacing: float, lesions: Sequence[Lesion], visit: int, rough: Field) -> LesionMaps:
    """Lesions as they are at a visit.

    Args:
        brain: where they lie.
        spacing: of the brain's grid, mm.
        lesions: from `draw_lesions`.
        visit: from 0.
        rough: smooth noise that keeps them from being perfect ellipsoids; the same for all visits of a person.
    """
    maps = LesionMaps(*(np.zeros(brain.inside.shape, dtype=np.float32) for _ in range(3)))
    for lesion in lesions:
        if lesion.onset > visit:
            continue
        box, inside = _ellipsoid(lesion, brain, spacing, visit, rough)
        for whole, strength in ((maps.fraction, 1.0), (maps.bright, lesion.brightness), (maps.dark, lesion.darkness)):
            np.maximum(whole[box], np.float32(strength) * inside, out=whole[box])
    return maps


def rater_mask(
    fraction: Field, allowed: Mask, generator: np.random.Generator, *, threshold: float, misses: bool
) -> Mask:
    """A rater's outline of the lesions.

    Args:
        fraction: lesion fraction of each voxel of the image.
        allowed: white matter.
        generator: how the rater's hand wavers.
        threshold: lesion fraction from which the rater draws; a generous rater has a low one.
        misses: whether the rater overlooks the smallest lesion, where there are three or more.
    """
    waver = smooth_noise(generator, fraction.shape, 24)
    drawn = (fraction + 0.1 * waver * (fraction > 0.05) > threshold) & allowed
    pieces, count = connected_components(drawn, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = sizes > 1  # one voxel is noise to a reader
    if misses and kept.sum() > 2:
        kept[np.argmin(np.where(kept, sizes, sizes.max() + 1))] = False
    return np.asarray(kept[pieces], dtype=bool)


def _candidates(brain: Brain) -> dict[str, NDArray[np.int64]]:
    """Voxels where the centre of a lesion of each kind may lie."""
    white = (brain.white_matter > 0.9) & (brain.cortex_distance > 0.7)
    near, far = brain.ventricle_distance, brain.cortex_distance
    return {
        "periventricular": np.argwhere(white & (near > 1.5) & (near < 9) & (far > 3)),
        "deep": np.argwhere(white & (near > 9) & (far > 4)),
        "juxtacortical": np.argwhere(white & (near > 14) & (far < 2.5)),
    }


def _lesion(
    candidates: dict[str, NDArray[np.int64]],
    gradient: Sequence[Field],
    radius: float,
    onset: int,
    occupied: Mask,
    generator: np.random.Generator,
) -> Lesion:
    place = str(generator.choice(list(_PLACES), p=list(_PLACES.values())))
    if place != "periventricular":
        radius = max(_SMALLEST_MM, min(radius, 5.0))
    for _ in range(20):  # not inside another lesion, unless there is no room
        centre = candidates[place][int(generator.integers(len(candidates[place])))]
        if not occupied[tuple(centre)]:
            break
    # the long axis of a lesion at a ventricle follows the vein that leaves the ventricle's wall (Dawson's finger)
    first = np.array([field[tuple(centre)] for field in gradient]) + generator.normal(0, 0.3, 3)
    frame, _ = np.linalg.qr(np.stack([first, *generator.normal(size=(2, 3))]).T)
    long = generator.uniform(1.2, 1.7) if place == "periventricular" else generator.uniform(1.0, 1.25)
    return Lesion(
        centre=centre,
        axes=frame.T.astype(np.float32),
        radii=(radius * np.array([long, 1.0, generator.uniform(0.8, 1.0)])).astype(np.float32),
        growth=float(generator.uniform(0.97, 1.12)),
        onset=onset,
        brightness=float(generator.uniform(0.75, 1.1)),
        darkness=float(generator.uniform(0.6, 1.3)),
    )


def _stamp(lesion: Lesion, brain: Brain, spacing: float, visit: int, occupied: Mask) -> Field:
    """Mark a lesion as occupied and return the fractions that it adds."""
    box, inside = _ellipsoid(lesion, brain, spacing, visit, None)
    added = np.where(occupied[box], 0, inside).astype(np.float32)
    occupied[box] |= inside > 0.5
    return added


def _ellipsoid(
    lesion: Lesion, brain: Brain, spacing: float, visit: int, rough: Field | None
) -> tuple[tuple[slice, ...], Field]:
    """The box around a lesion, and the fraction of its voxels that is lesion."""
    radii = lesion.radii * np.float32(lesion.growth ** (visit - lesion.onset))
    reach = int(np.ceil(1.25 * radii.max() / spacing)) + 1
    box = tuple(
        slice(max(0, int(at) - reach), min(size, int(at) + reach + 1))
        for at, size in zip(lesion.centre, brain.inside.shape, strict=True)
    )
    offset = np.stack(np.meshgrid(*(np.arange(cut.start, cut.stop) for cut in box), indexing="ij"))
    offset = ((offset - lesion.centre[:, None, None, None]) * spacing).astype(np.float32)
    along = np.einsum("ka,ahwd->khwd", lesion.axes, offset) / radii[:, None, None, None]
    distance = np.sqrt((along**2).sum(axis=0))
    if rough is not None:
        distance = distance + np.float32(0.13) * rough[box]
    inside = np.clip(0.5 + (1 - distance) * radii.mean() / spacing, 0, 1)
    return box, np.asarray(np.minimum(inside, brain.white_matter[box]), dtype=np.float32)
