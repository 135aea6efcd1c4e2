"""A belly in MR painted from a patient's numbers: stomach, small and large bowel among their neighbours.

Patient coordinates are millimetres in RAS+ (x grows to the patient's right, y to the front, z to the head) with the
origin in the middle of the body at the level of the first lumbar vertebra. Grey values are those of a balanced steady
state sequence in arbitrary units: fat and fluid bright, muscle and liver darker, gas and cortical bone black.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mtmed.data.demo.shapes import Field, Knot, Mask, Point, Space, add, moved, smooth_noise, times

__all__ = ["ORGANS", "GutPatient", "draw_gut_patient", "paint_gut"]

ORGANS = ("large_bowel", "small_bowel", "stomach")
"""Outlined organs, in alphabetical order as in the files."""

_COLON: tuple[Knot, ...] = (
    (86.0, -12.0, -108.0, 21.0),
    (90.0, -8.0, -40.0, 20.0),
    (82.0, 12.0, -6.0, 18.0),
    (44.0, 52.0, -22.0, 16.0),
    (0.0, 62.0, -34.0, 16.0),
    (-48.0, 50.0, -8.0, 15.0),
    (-92.0, -4.0, 30.0, 15.0),
    (-98.0, -16.0, -30.0, 14.0),
    (-96.0, -16.0, -112.0, 14.0),
)
_LOOPS = 30
_TOUCHING = 6  # loops that lie at the colon, so that outlines overlap
_LOWEST = -124.0  # mm; below the bowel leaves room for the bladder


@dataclass(frozen=True)
class GutPatient:
    """What stays the same when a person comes again, but for the motion of a day.

    Attributes:
        scale: size of the body along x, y, z relative to the mean adult.
        fat: thickness of the fat under the skin, as a fraction of the body's radius.
        spine: height of a vertebra's middle in mm.
        shift: per organ, the displacement of its centre in mm.
        size: per organ, the factor on its radii.
        colon: the course of the large bowel.
        loops: centre and radius of each loop of small bowel.
    """

    scale: Point
    fat: float
    spine: float
    shift: dict[str, Point]
    size: dict[str, float]
    colon: tuple[Knot, ...]
    loops: tuple[tuple[Point, float], ...]

    def on_day(self, generator: np.random.Generator) -> "GutPatient":
        """The same person on another day: organs a few mm away, the stomach fuller or emptier, loops displaced."""
        shift = {organ: add(place, _point(generator.normal(0, (1.5, 1.5, 3)))) for organ, place in self.shift.items()}
        return replace(
            self,
            shift=shift,
            size={**self.size, "stomach": self.size["stomach"] * float(generator.uniform(0.92, 1.08))},
            colon=_wandering(self.colon, 2.0, generator),
            loops=tuple((add(centre, _point(generator.normal(0, 4, 3))), radius) for centre, radius in self.loops),
        )


def draw_gut_patient(generator: np.random.Generator) -> GutPatient:
    """Draw a person."""
    parts = ("liver", "spleen", "left kidney", "right kidney", "stomach")
    colon = _wandering(_COLON, 5.0, generator)
    at_colon = generator.integers(0, len(colon), _TOUCHING)
    loops = [(_point(generator.uniform((-62, -8, -108), (62, 50, -28))), 1.0) for _ in range(_LOOPS - _TOUCHING)]
    loops += [((0.72 * colon[knot][0], colon[knot][1] - 6, colon[knot][2] - 10), 1.0) for knot in at_colon]
    return GutPatient(
        scale=_point(generator.uniform((0.9, 0.88, 0.93), (1.05, 1.08, 1.05))),
        fat=float(generator.uniform(0.06, 0.16)),
        spine=float(generator.uniform(-16, 16)),
        shift={part: _point(generator.normal(0, (4, 4, 6))) for part in parts},
        size={part: float(np.clip(generator.normal(1, 0.07), 0.86, 1.14)) for part in parts},
        colon=colon,
        loops=tuple((centre, radius * float(generator.uniform(11, 16))) for centre, radius in loops),
    )


def paint_gut(
    patient: GutPatient, points: Field, generator: np.random.Generator
) -> tuple[Field, dict[str, NDArray[np.bool_]]]:
    """Paint a scan.

    Args:
        patient: whom to paint.
        points: patient coordinates of the voxels, (3, W, H, D), mm.
        generator: source of texture, bias and noise.

    Returns:
        Grey values, and the outline of each of `ORGANS`, all of shape (W, H, D). Outlines overlap where organs touch.
    """
    shape = points.shape[1:]
    x, y, z = (
        (points[axis] / np.float32(patient.scale[axis]) + 3 * smooth_noise(generator, shape, 5)).astype(np.float32)
        for axis in range(3)
    )
    space = Space(x, y, z, smooth_noise(generator, shape, 10))
    texture = smooth_noise(generator, shape, 26)
    grey, belly = _paint_trunk(patient, space, texture)
    canvas = _Canvas(space.within(belly), texture[belly], grey[belly])
    inside = _paint_bowels(patient, canvas)
    _paint_neighbours(patient, canvas)
    grey[belly] = canvas.grey
    masks = {organ: np.zeros(shape, bool) for organ in ORGANS}
    for organ, mask in masks.items():
        mask[belly] = inside[organ]
    return _scanned(grey, generator), masks


class _Canvas:
    """The voxels of the belly as a list, filled organ after organ; a voxel belongs to the first that takes it."""

    def __init__(self, space: Space, texture: Field, grey: Field) -> None:
        self.space, self.texture, self.grey = space, texture, grey
        self.free = np.ones(grey.shape, dtype=bool)

    def fill(self, mask: Mask, value: float, grain: float = 20) -> Mask:
        """Fill what is still free of a mask and return that part."""
        mask = mask & self.free
        self.grey[mask] = value + grain * self.texture[mask]
        self.free[mask] = False
        return mask


def _paint_trunk(patient: GutPatient, space: Space, texture: Field) -> tuple[Field, Mask]:
    """Fat, muscle wall, spine and lungs; returns grey values and the mask of the belly."""
    x, y, z = space.x, space.y, space.z
    waist = 1 - 0.05 * np.exp(-(((z + 40) / 60) ** 2))
    radius = ((np.abs(x) / (148 * waist)) ** 2.3 + (np.abs(y + 3) / 101) ** 2.3) ** (1 / 2.3)
    inner = 0.87 - 0.7 * patient.fat
    body, wall = radius < 1, radius < 1 - patient.fat
    vertebra = space.blob((0, -46, 0), (23, 18, 1000), rough=0.04)
    cavity = (radius < inner) & (space.blob((0, -78, 0), (46, 40, 1000), rough=0.05) > 1)
    grey = np.full(x.shape, 12.0, dtype=np.float32)
    grey[body] = 880 + 30 * texture[body]
    grey[wall & ~cavity] = 300 + 25 * texture[wall & ~cavity]
    level = (z - patient.spine) / 36
    bone = vertebra < 1
    grey[bone] = np.where(np.abs(level - np.round(level)) > 0.38, 240, 470 + 30 * texture)[bone]
    grey[space.blob((0, -71, 0), (10, 9, 1000), rough=0.0) < 1] = 980
    dome = np.full(x.shape, 18.0, dtype=np.float32)
    for centre, height, width in ((68, 112, 74), (-68, 100, 70), (0, 98, 66)):
        np.maximum(dome, height - 62 * (((x - centre) / width) ** 2 + ((y - 2) / 84) ** 2), out=dome)
    chest = cavity & (z > dome)
    grey[chest] = 60 + 12 * texture[chest]
    heart = chest & (space.blob((-20, 28, 135), (52, 42, 40), tilt=0.4) < 1)
    grey[heart] = 690 + 40 * texture[heart]
    grey[cavity & ~chest] = 820 + 40 * texture[cavity & ~chest]
    return grey, cavity & ~chest & (vertebra > 1.1)


def _paint_bowels(patient: GutPatient, canvas: _Canvas) -> dict[str, Mask]:
    """Stomach, large and small bowel with what they hold; returns their outlines."""
    space, fill, grey, texture = canvas.space, canvas.fill, canvas.grey, canvas.texture
    size, centre = patient.size["stomach"], add((-50.0, 34.0, 40.0), patient.shift["stomach"])
    stomach = space.blob(centre, times((37, 40, 38), (size, size, size)), tilt=-0.3)
    np.minimum(stomach, space.blob(add(centre, (-4.0, -34.0, 20.0)), (33, 36, 28)), out=stomach)
    course = moved([(-46, 46, 20, 26), (-20, 56, -8, 20), (22, 46, 0, 14)], patient.shift["stomach"])
    np.minimum(stomach, space.tube(course), out=stomach)
    wall = fill(stomach < 1, 420)
    lumen = wall & (stomach < 0.78)
    # gas in front and fluid behind, as in a patient who lies on the back
    grey[lumen] = np.where(space.y > centre[1] + 18, 20, 1080 + 50 * texture)[lumen]

    above = space.z > _LOWEST
    colon = np.where(above, space.tube(patient.colon) * (1 + 0.16 * np.sin(space.z / 6.5)), np.inf)
    content = fill(colon < 1, 380) & (colon < 0.76)
    gas = texture + 0.02 * (space.y - 20) > 1.0
    grey[content] = np.where(gas, 18, 560 + 130 * texture)[content]

    loops = np.full(grey.shape, np.inf, dtype=np.float32)
    for place, radius in patient.loops:
        np.minimum(loops, space.blob(place, (1.35 * radius, radius, radius), tilt=radius), out=loops)
    loops[~above] = np.inf
    bowel = fill(loops < 1, 430)
    folds = bowel & (loops < 0.66)
    grey[folds] = 760 + 110 * np.sin(space.x[folds] / 3.2 + space.z[folds] / 4)
    return {"large_bowel": colon < 1, "small_bowel": loops < 1, "stomach": stomach < 1}


def _paint_neighbours(patient: GutPatient, canvas: _Canvas) -> None:
    """Great vessels, psoas muscles, kidneys, spleen, liver and bladder, where the gut left room."""
    space, fill = canvas.space, canvas.fill
    fill(space.tube([(-10, -17, 170, 11), (-8, -15, -100, 9), (-36, -20, -175, 6)], rough=0.03) < 1, 760)
    fill(space.tube([(22, -14, 120, 12), (17, -18, -100, 11), (38, -30, -175, 8)], rough=0.03) < 1, 720)
    for side, name, place, radii in (
        (1, "right kidney", (57.0, -50.0, -24.0), (30.0, 25.0, 48.0)),
        (-1, "left kidney", (-57.0, -50.0, 0.0), (26.0, 25.0, 54.0)),
    ):
        size, middle = patient.size[name], add(place, patient.shift[name])
        shell = space.blob(middle, times(radii, (size, size, size)), tilt=-side * 0.22, lean=-0.18)
        fill(space.blob(add(middle, (-side * 20.0, 5.0, 2.0)), (15, 9, 18)) < 1, 1000)
        fill(shell < 1, 620, 35)
        fill(space.blob((side * 38, -44, -95), (21, 20, 92), tilt=side * 0.16) < 1, 320)
    size = patient.size["spleen"]
    place = add((-88.0, -46.0, 46.0), patient.shift["spleen"])
    fill(space.blob(place, times((34, 44, 48), (size, size, size)), tilt=0.25) < 1, 560)
    size, place = patient.size["liver"], add((70.0, 2.0, 48.0), patient.shift["liver"])
    lobe = space.blob(place, times((74, 82, 78), (size, size, size)), tilt=-0.1)
    np.minimum(lobe, space.blob(add(place, (-64.0, 34.0, 14.0)), (60, 42, 34), tilt=0.2), out=lobe)
    surface = place[2] - 108 + 0.6 * (118 - space.x) + 0.16 * space.y
    liver = fill((lobe < 1) & (space.z > surface), 430, 15)
    vein = space.tube(moved([(26, 8, 10, 9), (52, 6, 36, 6), (98, 14, 52, 3)], patient.shift["liver"]))
    canvas.grey[liver & (vein < 1)] = 640
    fill(space.blob((0, 20, -150), (44, 36, 24)) < 1, 1050)


def _scanned(grey: Field, generator: np.random.Generator) -> Field:
    """Blurred, brighter near some coils than near others, and with the noise of magnitude images."""
    sharp = gaussian_filter(grey, (0.55, 0.55, 0.0))
    bias = np.exp(np.float32(0.16) * smooth_noise(generator, grey.shape, 3))
    gain, noise = np.float32(generator.uniform(0.75, 1.3)), np.float32(generator.uniform(16, 26))
    real, imaginary = (noise * generator.standard_normal(grey.shape, dtype=np.float32) for _ in range(2))
    return np.asarray(gain * np.hypot(sharp * bias + real, imaginary), dtype=np.float32)


def _wandering(course: tuple[Knot, ...], deviation: float, generator: np.random.Generator) -> tuple[Knot, ...]:
    """A course whose knots are displaced each on its own."""
    steps = generator.normal(0, deviation, (len(course), 3))
    return tuple((*add(knot[:3], _point(step)), knot[3]) for knot, step in zip(course, steps, strict=True))


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
