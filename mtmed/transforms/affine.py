"""Random rotation, scaling, shear and translation of a sample about its centre."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.transforms.spatial_operation import LinearMap, SpatialOperation, per_axis, value_range

__all__ = ["Affine", "rotation_matrix"]


class Affine(SpatialOperation):
    r"""Random affine map of the content.

    The content at x (voxels from the centre) goes to :math:`R\,S\,Z\,x + t`: first scaled (Z), then sheared (S), then
    rotated (R), then translated (t). So an object drawn with scale 1.1 comes out larger, and one drawn with
    translation +3 comes out at an index 3 higher. Everything is in voxels along the array's axes: where spacing is
    anisotropic, a rotation that mixes axes of different spacing also shears in mm, so restrict the angles there
    (``rotate_degrees=[0, 0, 15]`` turns in the plane of the first two axes only).

    Args:
        probability: chance that a sample is changed.
        rotate_degrees: largest angle in degrees (MONAI's ``rotate_range`` is in radians), one number or one for each
            rotation axis (2D: one number); drawn uniformly from -a to a. See `rotation_matrix` for the sense.
        scale_range: factor of size, ``[low, high]`` drawn once for all axes, or one such pair for each axis drawn
            independently. 1 is no change (MONAI counts from 0).
        shear_range: largest shear coefficient, drawn for each ordered pair of axes.
        translate_range: largest shift in voxels, one number or one for each axis.

    Raises:
        InputError: a range is not usable.
    """

    def __init__(
        self,
        *,
        probability: float,
        rotate_degrees: float | Sequence[float] = 0.0,
        scale_range: Sequence[float] | Sequence[Sequence[float]] = (1.0, 1.0),
        shear_range: float = 0.0,
        translate_range: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__(probability=probability)
        pairs = scale_range if isinstance(scale_range[0], Sequence) else [scale_range]
        for pair in pairs:
            value_range("Affine.scale_range", pair, lowest=0.0, above=True)  # type: ignore[arg-type]
        if shear_range < 0:
            raise InputError("Affine.shear_range", f"is {shear_range}, must not be negative", "give the largest shear")
        self.rotate_degrees = rotate_degrees
        self.scale_range = scale_range
        self.shear_range = float(shear_range)
        self.translate_range = translate_range

    def check(self, shape: Sequence[int]) -> None:
        """Require as many values as the images have axes."""
        rank = len(shape)
        per_axis("Affine.rotate_degrees", self.rotate_degrees, 1 if rank == 2 else rank)
        per_axis("Affine.translate_range", self.translate_range, rank)
        if isinstance(self.scale_range[0], Sequence) and len(self.scale_range) != rank:
            problem = f"has {len(self.scale_range)} pairs for images of {rank} axes"
            raise InputError("Affine.scale_range", problem, "give one [low, high], or one for each axis")

    def draw_fired(self, generator: np.random.Generator, shape: Sequence[int]) -> LinearMap:
        """Draw the matrix for one sample."""
        rank = len(shape)
        largest = per_axis("Affine.rotate_degrees", self.rotate_degrees, 1 if rank == 2 else rank)
        angles = [generator.uniform(-angle, angle) for angle in largest]
        each = isinstance(self.scale_range[0], Sequence)
        factors = [generator.uniform(*pair) for pair in (self.scale_range if each else [self.scale_range])]  # type: ignore[misc]
        shear = np.eye(rank)
        for row, column in itertools.permutations(range(rank), 2):
            shear[row, column] = generator.uniform(-self.shear_range, self.shear_range)
        matrix = np.eye(rank + 1)
        matrix[:rank, :rank] = rotation_matrix(angles) @ shear @ np.diag(factors * (1 if each else rank))
        furthest = per_axis("Affine.translate_range", self.translate_range, rank)
        matrix[:rank, rank] = [generator.uniform(-length, length) for length in furthest]
        return LinearMap(matrix)


def rotation_matrix(degrees: Sequence[float]) -> NDArray[np.float64]:
    """Rotation of the content, in the order of the array's axes.

    2D (one angle): a positive angle turns axis 0 towards axis 1, as `numpy.rot90` does for 90 degrees. 3D (three
    angles): the product R0 R1 R2, where R0 turns axis 1 towards axis 2, R1 axis 2 towards axis 0 and R2 axis 0
    towards axis 1, the right-handed sense about each axis.
    """
    if len(degrees) == 1:
        return _turn(degrees[0], 0, 1, 2)
    return _turn(degrees[0], 1, 2, 3) @ _turn(degrees[1], 2, 0, 3) @ _turn(degrees[2], 0, 1, 3)


def _turn(degrees: float, first: int, second: int, rank: int) -> NDArray[np.float64]:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(rank)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
    return matrix
