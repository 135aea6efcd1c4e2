"""Random mirroring and quarter turns, which need no interpolation."""

from collections.abc import Sequence

import numpy as np

from mtmed.errors import InputError
from mtmed.transforms.spatial_operation import LinearMap, SpatialOperation

__all__ = ["Flip", "Rotate90"]


class Flip(SpatialOperation):
    """Mirror each of some axes independently.

    A patient mirrored left to right has the liver on the wrong side: leave that axis out where laterality matters.

    Args:
        probability: chance for each axis on its own.
        axes: spatial axes that may be mirrored, counted from 0.

    Raises:
        InputError: no axis, or a negative or repeated one.
    """

    def __init__(self, *, probability: float, axes: Sequence[int]) -> None:
        super().__init__(probability=probability)
        if not axes or min(axes) < 0 or len(set(axes)) != len(axes):
            raise InputError("Flip.axes", f"is {list(axes)}, expected different axes from 0", "give for example [0, 1]")
        self.axes = tuple(int(axis) for axis in axes)

    def check(self, shape: Sequence[int]) -> None:
        """Require that the images have these axes."""
        if max(self.axes) >= len(shape):
            raise InputError("Flip.axes", f"is {list(self.axes)} for images of {len(shape)} axes", "drop the last ones")

    def draw(self, generator: np.random.Generator, shape: Sequence[int]) -> LinearMap | None:
        """Draw which axes are mirrored for one sample."""
        chosen = [axis for axis in self.axes if generator.random() < self.probability]
        matrix = np.eye(len(shape) + 1)
        matrix[chosen, chosen] = -1.0
        return LinearMap(matrix, exact=True) if chosen else None


class Rotate90(SpatialOperation):
    """Turn the content by 90, 180 or 270 degrees in one of some planes, each equally likely.

    The sense is that of `numpy.rot90`: from the first axis of the pair towards the second.

    Args:
        probability: chance that a sample is turned.
        axes: pairs of spatial axes, for example ``[[0, 1]]``; both axes of a pair must have the same size.

    Raises:
        InputError: a pair is not two different axes; at first use: its axes differ in size.
    """

    def __init__(self, *, probability: float, axes: Sequence[Sequence[int]]) -> None:
        super().__init__(probability=probability)
        for pair in axes:
            if not isinstance(pair, Sequence) or len(pair) != 2 or min(pair) < 0 or pair[0] == pair[1]:
                raise InputError("Rotate90.axes", f"holds {pair}, expected pairs of axes", "give for example [[0, 1]]")
        if not axes:
            raise InputError("Rotate90.axes", "is empty", "give for example [[0, 1]]")
        self.axes = tuple((int(first), int(second)) for first, second in axes)

    def check(self, shape: Sequence[int]) -> None:
        """Require that the two axes of every pair have one size."""
        for pair in self.axes:
            if max(pair) >= len(shape):
                problem = f"holds {list(pair)} for images of {len(shape)} axes"
                raise InputError("Rotate90.axes", problem, "drop this pair")
            if shape[pair[0]] != shape[pair[1]]:
                problem = f"holds {list(pair)}, but these axes have the sizes {shape[pair[0]]} and {shape[pair[1]]}"
                raise InputError("Rotate90.axes", problem, "choose axes of equal size, or change the patch size")

    def draw_fired(self, generator: np.random.Generator, shape: Sequence[int]) -> LinearMap:
        """Draw plane and number of quarter turns for one sample."""
        first, second = self.axes[int(generator.integers(len(self.axes)))]
        quarter = np.eye(len(shape) + 1)
        quarter[first, first] = quarter[second, second] = 0.0
        quarter[second, first], quarter[first, second] = 1.0, -1.0
        return LinearMap(np.linalg.matrix_power(quarter, int(generator.integers(1, 4))), exact=True)
