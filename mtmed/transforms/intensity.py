"""Random changes of intensity on a batch, in place; only the samples for which they fire pay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mtmed.errors import InputError
from mtmed.randomness import random_generator, torch_generator
from mtmed.transforms.spatial_operation import value_range

__all__ = ["Gamma", "GaussianNoise", "GaussianSmooth", "IntensityOperation", "IntensityScale", "IntensityShift"]


@dataclass(frozen=True)
class DrawnChange:
    """What was drawn for one sample: the strength, and the place in the run (for noise per voxel)."""

    value: float
    place: tuple[int, int, int, str]


class IntensityOperation(torch.nn.Module):
    """Base of the intensity operations: one number, drawn uniformly from a range, for each sample that fires.

    Args:
        probability: chance that a sample is changed.
        drawn_range: [low, high] of the number.
    """

    def __init__(self, *, probability: float, drawn_range: tuple[float, float]) -> None:
        super().__init__()
        if not 0.0 <= probability <= 1.0:
            name = f"{type(self).__name__}.probability"
            raise InputError(name, f"is {probability}, allowed are 0 to 1", "give a chance per sample")
        self.probability = float(probability)
        self.drawn_range = drawn_range

    def parameters_for(
        self, *, seed: int, step: int, positions: Sequence[int] | torch.Tensor, stream: str = "intensity"
    ) -> list[DrawnChange | None]:
        """Draw for each sample of a batch, on the CPU; None where nothing happens.

        Args:
            seed: seed of the run.
            step: optimiser step.
            positions: global position of each sample.
            stream: name of the random stream.
        """
        name = f"{stream}/{type(self).__name__}"
        drawn: list[DrawnChange | None] = []
        for position in map(int, positions):
            generator = random_generator(seed, step, position, name)
            fires = generator.random() < self.probability
            place = (seed, step, position, f"{name}/voxels")
            drawn.append(DrawnChange(float(generator.uniform(*self.drawn_range)), place) if fires else None)
        return drawn

    @torch.no_grad()
    def apply_to(self, image: torch.Tensor, changes: Sequence[DrawnChange | None]) -> torch.Tensor:
        """Change a batch (B, C, H, W, D) or (B, C, H, W) of floating point, in place.

        Args:
            image: the batch.
            changes: one for each sample, from `parameters_for`.

        Returns:
            The same tensor.
        """
        with torch.autocast(image.device.type, enabled=False):
            for sample, change in zip(image, changes, strict=True):
                if change is not None:
                    self.change(sample, change)
        return image

    def forward(
        self,
        image: torch.Tensor,
        *,
        seed: int,
        step: int,
        positions: Sequence[int] | torch.Tensor,
        stream: str = "intensity",
    ) -> torch.Tensor:
        """Draw and apply to a copy; see `parameters_for` and `apply_to`."""
        changes = self.parameters_for(seed=seed, step=step, positions=positions, stream=stream)
        return self.apply_to(image.clone(memory_format=torch.contiguous_format), changes)

    def change(self, sample: torch.Tensor, change: DrawnChange) -> None:
        """Change one sample (C, ...) in place."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Probability and range, for printing."""
        return f"probability={self.probability}, range={list(self.drawn_range)}"


class IntensityShift(IntensityOperation):
    """Add an offset, as MONAI's ``ShiftIntensity``.

    Args:
        probability: chance that a sample is changed.
        offset_range: [low, high] of the offset, in units of the image.
    """

    def __init__(self, *, probability: float, offset_range: Sequence[float] = (-0.1, 0.1)) -> None:
        offsets = value_range("IntensityShift.offset_range", offset_range, lowest=-math.inf)
        super().__init__(probability=probability, drawn_range=offsets)

    def change(self, sample: torch.Tensor, change: DrawnChange) -> None:
        """Add the offset."""
        sample.add_(change.value)


class IntensityScale(IntensityOperation):
    """Multiply by a factor (1 is no change; MONAI's ``ScaleIntensity`` counts from 0).

    Args:
        probability: chance that a sample is changed.
        factor_range: [low, high] of the factor.
    """

    def __init__(self, *, probability: float, factor_range: Sequence[float] = (0.9, 1.1)) -> None:
        factors = value_range("IntensityScale.factor_range", factor_range, lowest=0.0)
        super().__init__(probability=probability, drawn_range=factors)

    def change(self, sample: torch.Tensor, change: DrawnChange) -> None:
        """Multiply by the factor."""
        sample.mul_(change.value)


class Gamma(IntensityOperation):
    r"""Bend contrast within the sample's own range, as MONAI's ``AdjustContrast``.

    .. math:: x' = \left(\frac{x - \min}{\max - \min + 10^{-7}}\right)^\gamma (\max - \min) + \min

    Args:
        probability: chance that a sample is changed.
        gamma_range: [low, high] of gamma, above 0; 1 is no change.
    """

    def __init__(self, *, probability: float, gamma_range: Sequence[float] = (0.7, 1.5)) -> None:
        gammas = value_range("Gamma.gamma_range", gamma_range, lowest=0.0, above=True)
        super().__init__(probability=probability, drawn_range=gammas)

    def change(self, sample: torch.Tensor, change: DrawnChange) -> None:
        """Raise to the power of gamma."""
        low, high = torch.aminmax(sample)
        width = high - low
        sample.sub_(low).div_(width + 1e-7).pow_(change.value).mul_(width).add_(low)


class GaussianSmooth(IntensityOperation):
    """Smooth with a Gaussian, as a product with one banded matrix along each axis.

    The kernel is MONAI's (integrals of the Gaussian over the voxels, cut at 4 sigma). Unlike MONAI's, the default does
    not take what lies outside the patch for 0, which darkens its faces.

    Args:
        probability: chance that a sample is changed.
        sigma_range: [low, high] of sigma in voxels, one sigma for all axes.
        padding_mode: what lies outside: ``"border"`` (the outermost voxels) or ``"zeros"`` (as MONAI's).
    """

    def __init__(
        self, *, probability: float, sigma_range: Sequence[float] = (0.25, 1.5), padding_mode: str = "border"
    ) -> None:
        sigmas = value_range("GaussianSmooth.sigma_range", sigma_range, lowest=0.0, above=True)
        if padding_mode not in ("border", "zeros"):
            problem = f"is {padding_mode!r}, allowed are 'border' and 'zeros'"
            raise InputError("GaussianSmooth.padding_mode", problem, "choose one of them")
        super().__init__(probability=probability, drawn_range=sigmas)
        self.padding_mode = padding_mode

    def change(self, sample: torch.Tensor, change: DrawnChange) -> None:
        """Smooth along each axis."""
        smooth = sample
        for axis in range(1, sample.dim()):
            matrix = smoothing_matrix(sample.shape[axis], change.value, self.padding_mode)
            smooth = _along_axis(smooth, matrix.to(sample.device, sample.dtype), axis)
        sample.copy_(smooth)


class GaussianNoise(IntensityOperation):
    """Add independent normal noise to each voxel, drawn on the image's device.

    Args:
        probability: chance that a sample is changed.
        std_range: [low, high] of the standard deviation, in units of the image.
        skip_empty: leave channels that are 0 throughout, as missing modalities are, without noise.
    """

    def __init__(
        self, *, probability: float, std_range: Sequence[float] = (0.0, 0.1), skip_empty: bool = False
    ) -> None:
        stds = value_range("GaussianNoise.std_range", std_range, lowest=0.0)
        super().__init__(probability=probability, drawn_range=stds)
        self.skip_empty = skip_empty

    def change(self, sample: torch.Tensor, change: DrawnChange) -> None:
        """Add the noise."""
        generator = torch_generator(*change.place, sample.device)
        noise = torch.randn(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
        if self.skip_empty:
            noise *= (sample != 0).flatten(1).any(1).view(-1, *[1] * (sample.dim() - 1))
        sample.add_(noise, alpha=change.value)


def smoothing_matrix(size: int, sigma: float, padding_mode: str, truncated: float = 4.0) -> torch.Tensor:
    """Banded (size, size) matrix that smooths along an axis; with ``"border"`` every row sums to 1."""
    tail = int(max(sigma * truncated, 0.5) + 0.5)
    edges = torch.arange(-tail, tail + 2, dtype=torch.float64) - 0.5
    kernel = 0.5 * torch.diff(torch.erf(edges / (sigma * math.sqrt(2))))
    rows = torch.arange(size)[:, None].expand(size, 2 * tail + 1)
    columns = rows + torch.arange(-tail, tail + 1)
    weights = kernel.expand(size, -1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    if padding_mode == "zeros":
        weights = torch.where((columns >= 0) & (columns < size), weights, 0.0)
    matrix.index_put_((rows, columns.clamp(0, size - 1)), weights, accumulate=True)
    return matrix / matrix.sum(1, keepdim=True) if padding_mode == "border" else matrix


def _along_axis(sample: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    if axis == sample.dim() - 1:
        return sample @ matrix.T
    flat = sample.reshape(math.prod(sample.shape[:axis]), sample.shape[axis], -1)
    return (matrix @ flat).view(sample.shape)
