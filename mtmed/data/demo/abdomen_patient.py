"""A person drawn from random numbers: what stays the same when the abdomen is scanned twice."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtmed.data.demo.shapes import Point

__all__ = ["Patient", "draw_patient"]


@dataclass(frozen=True)
class Patient:
    """What stays the same between two scans of a person.

    Attributes:
        scale: size of the body along x, y, z relative to the mean adult.
        fat: thickness of the fat under the skin, as a fraction of the body's radius.
        spine: height of a vertebra's middle in mm.
        shift: per organ, the displacement of its centre in mm.
        size: per organ, the factor on its radii.
        tilt: per organ, the angle in radians by which it is turned in the coronal plane.
        liver_cancers: centre and radius in mm, relative to the liver's centre.
        kidney_cancer: side and radius in mm, None if healthy.
        missing_kidney: side without a kidney, None if both are there.
        bowel: centre and radius of each loop of small bowel.
    """

    scale: tuple[float, float, float]
    fat: float
    spine: float
    shift: dict[str, Point]
    size: dict[str, Point]
    tilt: dict[str, float]
    liver_cancers: tuple[tuple[Point, float], ...]
    kidney_cancer: tuple[str, float] | None
    missing_kidney: Literal["left", "right"] | None
    bowel: tuple[tuple[Point, float], ...]


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def draw_patient(
    generator: np.random.Generator,
    *,
    liver_cancer: bool = False,
    kidney_cancer: bool = False,
    missing_kidney: Literal["left", "right"] | None = None,
) -> Patient:
    """Draw a person.

    Args:
        generator: source of all variation.
        liver_cancer: whether the liver has one to three lesions.
        kidney_cancer: whether one of the kidneys has a tumour.
        missing_kidney: side without a kidney; a tumour is then in the other one. All else is drawn the same.
    """
    parts = ("liver", "spleen", "left kidney", "right kidney", "pancreas", "stomach")
    shift = {part: _point(generator.normal(0.0, (4.0, 4.0, 6.0))) for part in parts}
    size = {part: _point(np.clip(generator.normal(1.0, 0.08, 3), 0.84, 1.16)) for part in parts}
    tilt = {part: float(generator.normal(0.0, 0.07)) for part in parts}
    lesions = tuple(
        (_point(generator.uniform((-22, -30, -22), (34, 30, 30))), float(generator.uniform(9, 19)))
        for _ in range(int(generator.integers(1, 4)))
    )
    side = ("left", "right")[int(generator.integers(2))]
    if side == missing_kidney:
        side = "right" if side == "left" else "left"
    radius = float(generator.uniform(13, 20))
    bowel = tuple(
        (_point(generator.uniform((-68, -8, -150), (68, 66, -52))), float(generator.uniform(11, 17))) for _ in range(44)
    )
    return Patient(
        scale=_point(generator.uniform((0.9, 0.88, 0.93), (1.05, 1.08, 1.05))),
        spine=float(generator.uniform(-16, 16)),
        fat=float(generator.uniform(0.06, 0.17)),
        shift=shift,
        size=size,
        tilt=tilt,
        liver_cancers=lesions if liver_cancer else (),
        kidney_cancer=(side, radius) if kidney_cancer else None,
        missing_kidney=missing_kidney,
        bowel=bowel,
    )
