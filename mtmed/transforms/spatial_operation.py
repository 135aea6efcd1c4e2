"""What one spatial operation contributes to a sample: a linear map of its content, or a displacement of its voxels.

Operations only draw; `mtmed.transforms.geometry.SpatialAugmentation` fuses what they drew into one sampling grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mtmed.errors import InputError

__all__ = ["ControlGrid", "LinearMap", "SpatialOperation", "per_axis", "value_range"]


@dataclass(frozen=True)
class LinearMap:
    """Where the content of a sample goes, in voxels about the sample's centre: x moves to ``matrix @ (x, 1)``.

    Attributes:
        matrix: homogeneous, (rank + 1, rank + 1) float64, in the order of the array's axes.
        exact: the matrix only permutes and mirrors axes, so no interpolation is needed.
    """

    matrix: NDArray[np.float64]
    exact: bool = False


@dataclass(frozen=True)
class ControlGrid:
    """Random displacement of the sampling positions as coefficients of cubic B-splines.

    Attributes:
        coefficients: (n_0, ..., n_rank-1, rank) in voxels, last index the array axis along which it displaces.
        spacing: distance of control points along each axis, voxels.
    """

    coefficients: NDArray[np.float64]
    spacing: tuple[float, ...]


class SpatialOperation(torch.nn.Module):
    """Base of the spatial operations: fires with a probability and then draws its parameters.

    Args:
        probability: chance that the operation fires for a sample (`Flip`: for each axis).
    """

    def __init__(self, *, probability: float) -> None:
        super().__init__()
        if not 0.0 <= probability <= 1.0:
            name = f"{type(self).__name__}.probability"
            raise InputError(name, f"is {probability}, allowed are 0 to 1", "give a chance per sample")
        self.probability = float(probability)

    def check(self, shape: Sequence[int]) -> None:
        """Raise InputError if the operation cannot work on samples of this spatial shape."""

    def draw(self, generator: np.random.Generator, shape: Sequence[int]) -> LinearMap | ControlGrid | None:
        """Draw for one sample.

        Args:
            generator: used for nothing else, so the number of draws is free.
            shape: spatial shape of the sample.

        Returns:
            What happens to the sample, or None if nothing does.
        """
        if generator.random() >= self.probability:
            return None
        return self.draw_fired(generator, shape)

    def draw_fired(self, generator: np.random.Generator, shape: Sequence[int]) -> LinearMap | ControlGrid | None:
        """Draw for a sample for which the operation fires."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Constructor arguments, for printing."""
        values = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value}" for name, value in values.items())


def per_axis(name: str, value: float | Sequence[float], rank: int) -> tuple[float, ...]:
    """One number per axis from one number for all axes or a list of as many numbers as there are axes."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(values) != rank:
        problem = f"has {len(values)} values for images of {rank} axes"
        raise InputError(name, problem, "give one number, or one for each axis")
    return tuple(float(number) for number in values)


def value_range(name: str, value: Sequence[float], *, lowest: float, above: bool = False) -> tuple[float, float]:
    """Check a pair (low, high): ``lowest <= low <= high``, or ``lowest < low`` with `above`."""
    pair = tuple(float(number) for number in value)
    if len(pair) != 2 or not pair[0] <= pair[1] or pair[0] < lowest or (above and pair[0] == lowest):
        limit = f"{'above' if above else 'from'} {lowest:g}, low <= high"
        raise InputError(name, f"is {list(value)}, expected [low, high] ({limit})", "correct the range")
    return pair[0], pair[1]
