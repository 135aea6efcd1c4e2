"""Spatial augmentation of a batch: all operations fused into one sampling grid per sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.randomness import random_generator
from mtmed.transforms.sampling import fill_sampling_grid, sample_linear, sample_nearest
from mtmed.transforms.spatial_operation import ControlGrid, LinearMap, SpatialOperation

__all__ = ["SampleGeometry", "SpatialAugmentation"]


@dataclass(frozen=True)
class SampleGeometry:
    """What happens to one sample.

    Attributes:
        content: homogeneous map of the content about the centre, voxels, (rank + 1, rank + 1) float64.
        controls: displacement fields.
        exact: nothing fired but mirroring and quarter turns.
    """

    content: NDArray[np.float64]
    controls: tuple[ControlGrid, ...] = ()
    exact: bool = False


class SpatialAugmentation(torch.nn.Module):
    r"""Random spatial operations on a batch, with one resampling.

    The linear maps are composed in the listed order, :math:`A = A_n \cdots A_1`; displacements lie on the output
    grid and add up, wherever they stand in the list. The output voxel x takes its value from
    :math:`c + A^{-1}(x + u(x) - c)`, c being the centre. Samples for which nothing fired stay as they are, bit for
    bit; those for which only `Flip` or `Rotate90` fired are mirrored and turned without interpolation.

    Args:
        operations: `Affine`, `Elastic`, `Flip`, `Rotate90`.
        padding_mode: what lies outside the patch: ``"border"`` (its outermost voxels) or ``"zeros"``.

    Raises:
        InputError: an argument is not usable.
    """

    def __init__(self, operations: Sequence[torch.nn.Module], *, padding_mode: str = "border") -> None:
        super().__init__()
        if padding_mode not in ("border", "zeros"):
            problem = f"is {padding_mode!r}, allowed are 'border' and 'zeros'"
            raise InputError("SpatialAugmentation.padding_mode", problem, "choose one of them")
        for operation in operations:
            if not isinstance(operation, SpatialOperation):
                problem = f"holds a {type(operation).__name__}, which is no spatial operation"
                raise InputError("SpatialAugmentation.operations", problem, "list Affine, Elastic, Flip or Rotate90")
        self.operations = torch.nn.ModuleList(operations)
        self.padding_mode = padding_mode

    def parameters_for(
        self,
        shape: Sequence[int],
        *,
        seed: int,
        step: int,
        positions: Sequence[int] | torch.Tensor,
        stream: str = "geometry",
    ) -> list[SampleGeometry | None]:
        """Draw for each sample of a batch, on the CPU.

        Args:
            shape: spatial shape of the samples.
            seed: seed of the run.
            step: optimiser step.
            positions: global position of each sample.
            stream: name of the random stream.

        Returns:
            For each sample what happens to it, or None where nothing does.

        Raises:
            InputError: an operation cannot work on this shape.
        """
        operations = [operation for operation in self.operations if isinstance(operation, SpatialOperation)]
        for operation in operations:
            operation.check(shape)
        geometries: list[SampleGeometry | None] = []
        for position in map(int, positions):
            drawn = [
                operation.draw(
                    random_generator(seed, step, position, f"{stream}/{number}/{type(operation).__name__}"), shape
                )
                for number, operation in enumerate(operations)
            ]
            maps = [item for item in drawn if isinstance(item, LinearMap)]
            controls = tuple(item for item in drawn if isinstance(item, ControlGrid))
            content = reduce(lambda before, item: item.matrix @ before, maps, np.eye(len(shape) + 1))
            exact = not controls and all(item.exact for item in maps)
            unchanged = exact and bool(np.array_equal(content, np.eye(len(shape) + 1)))
            geometries.append(None if unchanged else SampleGeometry(content, controls, exact))
        return geometries

    @torch.no_grad()
    def apply_to(
        self, tensors: Mapping[str, torch.Tensor], geometries: Sequence[SampleGeometry | None]
    ) -> dict[str, torch.Tensor]:
        """Warp the tensors of a batch with what was drawn.

        Args:
            tensors: B C H W D or B C H W, all of one spatial shape. Floating point ones are sampled linearly, others by
                the nearest voxel. Tensors with fewer than three dimensions (numbers per sample) are passed on.
            geometries: one for each sample, from `parameters_for`.

        Returns:
            The same names; a tensor that nothing happened to is the one that was given, not a copy.
        """
        spatial = {name: tensor for name, tensor in tensors.items() if tensor.dim() > 2}
        fired = [index for index, geometry in enumerate(geometries) if geometry is not None]
        _check_shapes(spatial, len(geometries))
        if not fired or not spatial:
            return dict(tensors)
        warped = {
            name: torch.empty_like(tensor, memory_format=torch.contiguous_format) for name, tensor in spatial.items()
        }
        resampled: list[tuple[int, SampleGeometry]] = []
        for index, geometry in enumerate(geometries):
            if geometry is not None and not geometry.exact:
                resampled.append((index, geometry))
                continue
            for name, tensor in spatial.items():
                sample = tensor[index]
                warped[name][index] = sample if geometry is None else _reorient(sample, geometry.content)
        if resampled:
            # mixed precision would round the positions
            device = next(iter(spatial.values())).device.type
            with torch.autocast(device, enabled=False):
                self._resample(spatial, warped, resampled)
        return {**tensors, **warped}

    def forward(
        self,
        tensors: Mapping[str, torch.Tensor],
        *,
        seed: int,
        step: int,
        positions: Sequence[int] | torch.Tensor,
        stream: str = "geometry",
    ) -> dict[str, torch.Tensor]:
        """Draw and apply; see `parameters_for` and `apply_to`."""
        shape = next(tensor.shape[2:] for tensor in tensors.values() if tensor.dim() > 2)
        return self.apply_to(
            tensors, self.parameters_for(shape, seed=seed, step=step, positions=positions, stream=stream)
        )

    def _resample(
        self,
        source: Mapping[str, torch.Tensor],
        target: Mapping[str, torch.Tensor],
        geometries: Sequence[tuple[int, SampleGeometry]],
    ) -> None:
        first = next(iter(source.values()))
        shape = first.shape[2:]
        indices = [index for index, _ in geometries]
        grid = torch.empty((len(indices), len(shape), *shape), device=first.device)
        for positions, (_, geometry) in zip(grid, geometries, strict=True):
            fill_sampling_grid(positions, geometry.content, geometry.controls)
        linear = [name for name, tensor in source.items() if tensor.is_floating_point()]
        if linear:
            images = torch.stack([torch.cat([source[name][index].float() for name in linear]) for index in indices])
            sampled = sample_linear(images, grid, self.padding_mode)
            channel = 0
            for name in linear:
                part = sampled[:, channel : channel + source[name].shape[1]]
                channel += source[name].shape[1]
                for index, sample in zip(indices, part, strict=True):
                    target[name][index] = sample
        for name, tensor in source.items():
            if name not in linear:
                labels = tensor if len(indices) == len(tensor) else tensor[indices]
                for index, sample in zip(indices, sample_nearest(labels, grid, self.padding_mode), strict=True):
                    target[name][index] = sample


def _check_shapes(tensors: Mapping[str, torch.Tensor], size: int) -> None:
    for name, tensor in tensors.items():
        if len(tensor) != size:
            raise InputError(
                name, f"has {len(tensor)} samples, {size} were drawn", "draw for every sample of the batch"
            )
        other_name, other = next(iter(tensors.items()))
        if tensor.shape[2:] != other.shape[2:]:
            problem = f"has the spatial shape {tuple(tensor.shape[2:])}, {other_name} has {tuple(other.shape[2:])}"
            raise InputError(name, problem, "tensors that are warped together need one shape")


def _reorient(sample: torch.Tensor, content: NDArray[np.float64]) -> torch.Tensor:
    """Permute and mirror the axes of (C, ...) as a signed permutation matrix says."""
    rank = sample.dim() - 1
    signed = content[:rank, :rank]
    axes = np.abs(signed).argmax(1)
    turned = sample.permute(0, *(1 + int(axis) for axis in axes))
    mirrored = [1 + row for row in range(rank) if signed[row, axes[row]] < 0]
    return turned.flip(mirrored) if mirrored else turned
