"""MONAI's Rand3DElasticd reproduced from the same seed, but with banded matrices and one grid for all keys.

It shows that the way mtmed warps (matrix products, one shared grid, float32) changes nothing in the result: the same
numbers are drawn in the same order, and images differ by rounding only. mtmed itself draws another random field.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.transforms import RandAffineGrid

__all__ = ["SeededElastic"]


class SeededElastic:
    """Draws and warps as ``Rand3DElasticd(prob=1)`` with bilinear images and nearest labels, reflecting at the border.

    Args:
        sigma_range: as in MONAI.
        magnitude_range: as in MONAI.
        rotate_range: radians, one for each axis.
        scale_range: one for each axis, 0 is no change.
        translate_range: voxels, one for each axis.
        seed: as given to MONAI's ``set_random_state``.
    """

    def __init__(
        self,
        sigma_range: tuple[float, float],
        magnitude_range: tuple[float, float],
        rotate_range: Sequence[float],
        scale_range: Sequence[float],
        translate_range: Sequence[float],
        seed: int,
    ) -> None:
        self.sigma_range, self.magnitude_range = sigma_range, magnitude_range
        # MONAI's dictionary transform, its elastic part and the affine grid each have a generator of the same seed
        self.random = np.random.RandomState(seed)
        self.affine = RandAffineGrid(
            rotate_range=rotate_range, scale_range=scale_range, translate_range=translate_range
        ).set_random_state(seed)

    def __call__(self, data: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Warp tensors (C, H, W, D) that share their spatial shape."""
        shape = next(iter(data.values())).shape[1:]
        grid = torch.from_numpy(self._positions(shape)).flip(0).movedim(0, -1)[None]
        warped = {}
        for name, tensor in data.items():
            mode = "bilinear" if tensor.is_floating_point() else "nearest"
            sampled = torch.nn.functional.grid_sample(
                tensor.float()[None], grid, mode=mode, padding_mode="reflection", align_corners=False
            )
            warped[name] = sampled[0].to(tensor.dtype)
        return warped

    def _positions(self, shape: Sequence[int]) -> np.ndarray:
        self.random.rand()
        noise = self.random.uniform(-1.0, 1.0, [3, *shape]).astype(np.float32, copy=False)
        magnitude = self.random.uniform(*self.magnitude_range)
        sigma = self.random.uniform(*self.sigma_range)
        # MONAI draws the affine once in randomize and again, to be used, when it is laid over the grid
        self.affine.randomize()
        corner = torch.zeros(4, 1, 1, 1)
        self.affine(grid=corner)
        matrix = self.affine.get_transformation_matrix()
        assert matrix is not None
        field = torch.from_numpy(noise)
        for axis, size in enumerate(shape, start=1):
            field = _smooth(field, axis, torch.from_numpy(_band(size, sigma)).float())
        field *= magnitude
        for axis, size in enumerate(shape):
            line = torch.arange(size) - (size - 1) / 2
            field[axis] += line.view([-1 if other == axis else 1 for other in range(3)])
        scale = torch.tensor([2.0 / max(2, size) for size in shape])
        linear = matrix[:3, :3].float() * scale[:, None]
        return torch.addmm((matrix[:3, 3].float() * scale)[:, None], linear, field.flatten(1)).view(3, *shape).numpy()


def _band(size: int, sigma: float) -> np.ndarray:
    """Banded matrix of MONAI's kernel (integrals over voxels, cut at 3 sigma), with zeros outside."""
    tail = int(max(sigma * 3.0, 0.5) + 0.5)
    edges = (np.arange(-tail, tail + 2) - 0.5) / (sigma * math.sqrt(2))
    kernel = 0.5 * np.diff([math.erf(edge) for edge in edges])
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-tail, tail + 1), kernel, strict=True):
        matrix += weight * np.eye(size, k=offset)
    return matrix


def _smooth(field: torch.Tensor, axis: int, matrix: torch.Tensor) -> torch.Tensor:
    if axis == 3:
        return field @ matrix.T
    return (matrix @ field.reshape(math.prod(field.shape[:axis]), field.shape[axis], -1)).view(field.shape)
