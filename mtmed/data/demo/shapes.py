"""Shapes to paint with: ellipsoids and tubes in patient coordinates, and smooth random fields."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

__all__ = ["Field", "Knot", "Mask", "Point", "Space", "add", "moved", "smooth_noise", "times"]

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Point = tuple[float, float, float]
Knot = tuple[float, float, float, float]  # a point and a radius


def smooth_noise(generator: np.random.Generator, shape: tuple[int, ...], nodes: int) -> Field:
    """Smooth field of unit standard deviation at its nodes, from a coarse random grid."""
    field = generator.standard_normal((nodes, nodes, nodes)).astype(np.float32)
    for size in shape:
        spline = zoom(np.eye(nodes, dtype=np.float32), (size / nodes, 1), order=3, mode="nearest", grid_mode=True)
        # einsum sums in a fixed order, whatever the number of threads
        field = np.einsum("sn,nij->ijs", spline, field)
    return np.ascontiguousarray(field, dtype=np.float32)


@dataclass(frozen=True)
class Space:
    """Patient coordinates of voxels, with a roughness that keeps surfaces from being perfect ellipsoids."""

    x: Field
    y: Field
    z: Field
    rough: Field

    def within(self, mask: Mask) -> "Space":
        """The voxels of a mask, as a list."""
        return Space(self.x[mask], self.y[mask], self.z[mask], self.rough[mask])

    def blob(self, centre: Point, radii: Point, *, tilt: float = 0.0, lean: float = 0.0, rough: float = 0.12) -> Field:
        """Squared distance in radii, below 1 inside; `tilt` turns in the coronal, `lean` in the sagittal plane."""
        dx, dy, dz = self.x - centre[0], self.y - centre[1], self.z - centre[2]
        if tilt:
            dx, dz = np.cos(tilt) * dx - np.sin(tilt) * dz, np.sin(tilt) * dx + np.cos(tilt) * dz
        if lean:
            dy, dz = np.cos(lean) * dy - np.sin(lean) * dz, np.sin(lean) * dy + np.cos(lean) * dz
        q = (dx / np.float32(radii[0])) ** 2 + (dy / np.float32(radii[1])) ** 2 + (dz / np.float32(radii[2])) ** 2
        return np.asarray(q + np.float32(rough) * self.rough, dtype=np.float32)

    def tube(self, points: Sequence[Knot], *, rough: float = 0.15) -> Field:
        """Squared distance to a polyline in units of its radius; points are (x, y, z, radius)."""
        best = np.full(self.x.shape, np.inf, dtype=np.float32)
        for start, end in itertools.pairwise(points):
            axis = np.array(end[:3], dtype=np.float32) - np.array(start[:3], dtype=np.float32)
            dx, dy, dz = self.x - start[0], self.y - start[1], self.z - start[2]
            along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / float(axis @ axis), 0.0, 1.0)
            radius = start[3] + along * (end[3] - start[3])
            distance = (dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2
            np.minimum(best, distance / radius**2, out=best)
        return np.asarray(best + np.float32(rough) * self.rough, dtype=np.float32)


def add(first: Point, second: Point) -> Point:
    """Sum of two points."""
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]


def times(first: Point, second: Point) -> Point:
    """Product of two points, axis by axis."""
    return first[0] * second[0], first[1] * second[1], first[2] * second[2]


def moved(course: Sequence[Knot], shift: Point) -> list[Knot]:
    """A course of knots, displaced."""
    return [(*add(knot[:3], shift), knot[3]) for knot in course]
