"""A chest X-ray painted from a patient's numbers: what absorbs the rays adds up, in units of 100 mm of soft tissue.

Patient coordinates are millimetres in the plane of the detector (x grows to the patient's left, which is the right of
the picture, z to the head) with the origin between the roots of the lungs. The third axis, along the rays, is not
painted: the shapes of `mtmed.data.demo.shapes` lie in the plane y = 0. Sizes and positions are those of an adult.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

from mtmed.data.demo.chest_patient import APEX, BASE, ChestPatient, Pneumothorax
from mtmed.data.demo.shapes import Field, Knot, Mask, Space, smooth_noise

__all__ = ["paint_chest"]

_MEDIASTINUM = 22.0  # mm; from the midline to the lung
_MEDIASTINAL: tuple[tuple[Knot, ...], ...] = (
    ((20.0, 0.0, 44.0, 19.0), (12.0, 0.0, 44.0, 19.0)),  # arch of the aorta
    ((26.0, 0.0, 40.0, 13.0), (14.0, 0.0, -120.0, 11.0)),  # its descent
    ((-17.0, 0.0, 96.0, 12.0), (-22.0, 0.0, 0.0, 13.0)),  # upper vena cava
    ((0.0, 0.0, 160.0, 24.0), (0.0, 0.0, 60.0, 22.0)),  # neck and gullet
)


def paint_chest(
    patient: ChestPatient, pneumothorax: Pneumothorax | None, points: Field, generator: np.random.Generator
) -> tuple[Field, Mask]:
    """Paint an X-ray.

    Args:
        patient: whom to paint.
        pneumothorax: what ails the patient; None for nothing.
        points: where each pixel lies in the detector's plane, (2, H, W), x and z in mm.
        generator: source of shapes' roughness and of texture.

    Returns:
        Absorption, 0 for air, and the mask of the gas in the pleural space that is not behind the heart, both (H, W).
    """
    flat = points.shape[1:]
    rough = [smooth_noise(generator, (1, *flat), 7)[0] for _ in range(3)]
    cos, sin = np.float32(np.cos(patient.turn)), np.float32(np.sin(patient.turn))
    x = (cos * points[0] - sin * points[1]) / np.float32(patient.scale[0]) + 2 * rough[0]
    z = (sin * points[0] + cos * points[1]) / np.float32(patient.scale[1]) + 2 * rough[1]
    space = Space(x, np.zeros_like(x), z, rough[2])
    body = _body(patient, x, z)
    heart = space.blob((0.34 * patient.heart[0], 0, -46), (patient.heart[0], 1, patient.heart[1]), tilt=0.45)
    absorption = body + _bones(patient, space)
    gas = np.zeros(flat, dtype=bool)
    for side in (-1, 1):
        ill = pneumothorax if pneumothorax is not None and pneumothorax.side == side else None
        absorbed, free = _lung(patient, side, ill, space, body, generator)
        absorption += absorbed
        gas |= free & (heart > 1)
    absorption += 0.5 * np.sqrt(np.clip(1 - heart, 0, None))
    for course in _MEDIASTINAL:
        absorption += 0.22 * np.sqrt(np.clip(1 - space.tube(course, rough=0.1), 0, None))
    for line in patient.lines:
        absorption += 0.4 * np.exp(-space.tube(line, rough=0.0))
    if patient.fold is not None:
        beyond = np.sign(patient.fold[0]) * (x - patient.fold[0] - patient.fold[1] * z)
        absorption += np.where(beyond < 0, 0.14 * np.exp(beyond / 14), 0) * (body > 0)
    return np.asarray(np.clip(absorption, 0, None), dtype=np.float32), gas


def _body(patient: ChestPatient, x: Field, z: Field) -> Field:
    """Soft tissue without lungs: trunk, shoulders and neck, and the denser belly."""
    half = 158 + 62 / (1 + np.exp(-(z - 62) / 16))
    shoulder = 152 - 0.34 * np.abs(np.abs(x) - 30)
    inside = np.minimum(half - np.abs(x), np.maximum(shoulder - z, 56 - np.abs(x)))
    body = patient.thickness * np.sqrt(1 - np.exp(-np.clip(inside, 0, None) / 45))
    return np.asarray(body * (1 + 0.2 / (1 + np.exp((z + 105) / 12))), dtype=np.float32)


def _wall(z: NDArray[np.floating]) -> Field:
    """Half the width of the thoracic cage at a height."""
    down = np.clip((APEX - z) / (APEX - BASE), 0, 1)
    return np.asarray(126 * (1 - (1 - down) ** 3) ** 0.55, dtype=np.float32)


def _cavity(across: Field, z: Field, dome: float) -> Field:
    """About the distance in mm to the border of one half of the chest, above 0 inside; `across` is 0 at the midline."""
    floor = dome - 0.011 * (across - 56) ** 2
    nearest = np.minimum(np.minimum(_wall(z) - across, across - _MEDIASTINUM), z - floor)
    # wall and floor are steep far from the middle of the lung
    return np.asarray(nearest / np.hypot(1.0, 0.022 * (across - 56)), dtype=np.float32)


def _bones(patient: ChestPatient, space: Space) -> Field:
    """Spine, ribs behind and in front, collar bones and the borders of the shoulder blades."""
    x, z, across = space.x, space.z, np.abs(space.x)
    level = np.abs(z / 26 - np.round(z / 26))
    bones = 0.4 * np.sqrt(np.clip(1 - (x / 19) ** 2, 0, None)) * np.where(level > 0.4, 0.7, 1.0)
    wall = _wall(z)
    share = across / np.maximum(wall, 1)
    caged = np.clip((wall + 5 - across) / 4, 0, 1) * (z < APEX) * np.clip((z + 135) / 20, 0, 1)
    for rise, fall, strength, medial in ((10.0, 46.0, 0.2, 16.0), (-48.0, -18.0, 0.11, 50.0)):
        course = z - rise * np.sin(np.pi * np.clip(share, 0, 1)) + fall * share**2
        place = np.abs(course / patient.ribs - np.round(course / patient.ribs))
        # the cortex absorbs most, so a rib has bright borders; along the wall all rays run through more of it
        rib = np.where(place < 0.19, 0.6 + 0.4 * (place / 0.19) ** 2, 0) * np.clip((across - medial) / 8, 0, 1)
        bones += strength * rib * caged
    for side in (-1, 1):
        collar = [(side * 16, 0, 104, 8), (side * 62, 0, 116, 6), (side * 105, 0, 132, 6), (side * 150, 0, 128, 8)]
        blade = [(side * 128, 0, 118, 5), (side * 122, 0, 60, 4), (side * 132, 0, 0, 3)]
        for knots, strength in ((collar, 0.3), (blade, 0.16)):
            bones += strength * np.sqrt(np.clip(1 - space.tube(knots, rough=0.05), 0, None))
    return np.asarray(patient.bone * bones, dtype=np.float32)


def _lung(
    patient: ChestPatient,
    side: int,
    ill: Pneumothorax | None,
    space: Space,
    body: Field,
    generator: np.random.Generator,
) -> tuple[Field, Mask]:
    """What one half of the chest absorbs less than soft tissue would, and the mask of free gas in it."""
    x, z = side * space.x, space.z
    dome = patient.domes[0 if side < 0 else 1]
    cavity = _cavity(x, z, dome)
    if ill is not None:  # seen from here, the lung lies where it would without gas
        beside = np.clip((x - _MEDIASTINUM) / 40, 0, 1)
        apart = (1 - ill.width) * np.clip((z - ill.reach) / 60, 0, 1) * (1 + 0.15 * space.rough)
        x = np.asarray(_MEDIASTINUM + (x - _MEDIASTINUM) / (1 - beside * apart), dtype=np.float32)
        z = ill.floor + (z - ill.floor) / ill.height
    edge = cavity if ill is None else np.minimum(_cavity(x, z, dome), cavity)
    depth = np.minimum(1.35 * (1 - np.exp(-np.clip(cavity, 0, None) / 20)), 0.72 * body)
    full = np.clip(0.5 + edge / 3, 0, 1)
    tissue = patient.lung * (1 + (0.0 if ill is None else 1.1 * ill.size))
    texture = gaussian_filter(generator.standard_normal(x.shape, dtype=np.float32), 0.9)
    absorbed: Field = depth * (full * tissue * (1 + 0.35 * texture) - 1)
    inside = edge > -2
    lung = Space(x, space.y, z, space.rough).within(inside)
    absorbed[inside] += (full[inside] * patient.vessels) * _vessels(lung, generator)
    if patient.shadow is not None and side * patient.shadow[0] > 0:
        place = (side * patient.shadow[0], 0.0, patient.shadow[1])
        absorbed[inside] += full[inside] * patient.shadow[2] * np.exp(-lung.blob(place, (26, 1, 30), rough=0.4))
    free = np.zeros(x.shape, dtype=bool)
    if ill is not None:
        free = _largest((cavity > 0) & (edge < 0))
        absorbed += 0.11 * np.exp(-((edge / 2.2) ** 2)) * np.clip((cavity - 4) / 4, 0, 1)  # the pleura along the rays
    return np.asarray(absorbed, dtype=np.float32), free


def _vessels(lung: Space, generator: np.random.Generator) -> Field:
    """Branching vessels, thick at the root of the lung, which do not reach its edge."""
    drawn = np.zeros(lung.x.shape, dtype=np.float32)
    for angle in np.linspace(-1.35, 1.35, 9) + generator.normal(0, 0.1, 9):
        reach, bend = generator.uniform(44, 66), generator.normal(0, 0.25)
        middle = (34 + 0.5 * reach * np.cos(angle), 0.0, 4 + 0.7 * reach * np.sin(angle), 2.8)
        for turn in (bend, bend + generator.choice((-1, 1)) * generator.uniform(0.4, 0.8)):
            end = (
                middle[0] + 0.55 * reach * np.cos(angle + turn),
                0.0,
                middle[2] + 0.75 * reach * np.sin(angle + turn),
                1.4,
            )
            course = [(34.0, 0.0, 4.0, 4.0), middle, end]
            np.maximum(drawn, 0.24 * np.exp(-0.7 * lung.tube(course, rough=0.0)), out=drawn)
    root = 0.3 * np.exp(-lung.blob((30, 0, 2), (15, 1, 24), rough=0.2))
    return np.asarray(drawn + root, dtype=np.float32)


def _largest(mask: Mask) -> Mask:
    """The largest connected part: slivers between borders that nearly meet are no gas."""
    parts, _ = label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((parts == sizes.argmax()) & mask)
