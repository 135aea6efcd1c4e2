"""The person on a chest X-ray, and what ails one lung."""

from dataclasses import dataclass

import numpy as np

from mtmed.data.demo.shapes import Knot

__all__ = ["APEX", "BASE", "ChestPatient", "Pneumothorax", "draw_chest_patient", "draw_pneumothorax"]

APEX, BASE = 128.0, -125.0  # mm; top of the thoracic cage and level of its lowest angle


@dataclass(frozen=True)
class Pneumothorax:
    """A lung that is smaller than its cavity.

    Attributes:
        side: -1 right, 1 left lung.
        size: 0 for a small one, 1 for a large one.
        width, height: of the lung relative to its cavity, the width where it is least.
        reach: height in mm down to which the lung left the wall.
        floor: height in mm that stays where it is when the lung shrinks.
    """

    side: int
    size: float
    width: float
    height: float
    reach: float
    floor: float


@dataclass(frozen=True)
class ChestPatient:
    """What differs from person to person, but for textures.

    Attributes:
        scale: size of the chest along x and z relative to the mean adult.
        turn: rotation in the plane of the detector, radians.
        thickness: of the body along the rays, in 100 mm.
        domes: height of the diaphragm's right and left dome in mm.
        heart: half-axes of the heart in mm.
        vessels: prominence of the lungs' vessels.
        lung: absorption of aerated lung relative to soft tissue.
        ribs: distance from rib to rib in mm.
        bone: absorption of bone.
        lines: courses of tubes and wires over the chest.
        fold: place and slant of a fold of the skin, which looks like the edge of a lung; None for most.
        shadow: place and strength of a patch of denser lung; None for most.
    """

    scale: tuple[float, float]
    turn: float
    thickness: float
    domes: tuple[float, float]
    heart: tuple[float, float]
    vessels: float
    lung: float
    ribs: float
    bone: float
    lines: tuple[tuple[Knot, ...], ...]
    fold: tuple[float, float] | None
    shadow: tuple[float, float, float] | None


def draw_chest_patient(generator: np.random.Generator) -> ChestPatient:
    """Draw a person. Nothing depends on whether there is a pneumothorax."""
    uniform = generator.uniform
    left = float(uniform(-106, -86))
    lines = []
    for _ in range(int(generator.choice((0, 0, 0, 1, 2)))):
        side = float(generator.choice((-1, 1)))
        knots = [(side * 150.0, 0.0, float(uniform(-150, 100)), 1.4)]
        knots.append((side * float(uniform(60, 110)), 0.0, knots[0][2] + float(uniform(-20, 40)), 1.4))
        knots.append((side * float(uniform(40, 90)), 0.0, float(uniform(20, 90)), 1.4))
        lines.append(tuple(knots))
    fold = (float(generator.choice((-1, 1)) * uniform(60, 95)), float(uniform(-0.25, 0.25)))
    shadow = (float(generator.choice((-1, 1)) * uniform(40, 80)), float(uniform(-70, 60)), float(uniform(0.15, 0.4)))
    return ChestPatient(
        scale=(float(uniform(0.9, 1.06)), float(uniform(0.9, 1.06))),
        turn=float(generator.normal(0, 0.03)),
        thickness=float(uniform(1.7, 2.3)),
        domes=(left + float(uniform(2, 16)), left),
        heart=(float(uniform(58, 74)), float(uniform(42, 51))),
        vessels=float(uniform(0.7, 1.3)),
        lung=float(uniform(0.2, 0.3)),
        ribs=float(uniform(21, 25)),
        bone=float(uniform(0.75, 1.25)),
        lines=tuple(lines),
        fold=fold if uniform() < 0.2 else None,
        shadow=shadow if uniform() < 0.25 else None,
    )


def draw_pneumothorax(size: float, generator: np.random.Generator) -> Pneumothorax:
    """Draw a pneumothorax of a size from 0 to 1: gas at the apex and along the wall, below the lung too if large."""
    lateral = float(generator.uniform(0.4, 1.0))
    top = 13 + 64 * size * float(generator.uniform(0.8, 1.2))
    return Pneumothorax(
        side=int(generator.choice((-1, 1))),
        size=size,
        width=1 - (7 + 46 * size * lateral) / 105,
        height=1 - top / (APEX - BASE),
        reach=70 - 230 * size * lateral,
        floor=BASE + 95 * max(0.0, size - 0.55),
    )
