"""Resampling to a wanted spacing, one axis at a time.

MONAI's ``Spacing`` keeps the direction of the axes (unless ``diagonal=True``), so that each output coordinate depends
on one input coordinate only, also for oblique volumes: trilinear interpolation is then three 1-D interpolations, which
need neither a sampling grid nor float64 voxels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import AFFINE_TOL, to_affine_nd
from monai.networks.utils import to_norm_affine
from monai.transforms import Spacingd, SpatialResample

__all__ = ["SeparableSpacingd"]

_SLAB = 2**17  # voxels of a slab: a few of them in float32 fit the cache of a CPU core
_MIXING_VOXELS = 1e-3  # header affines are float32, so that rotations are orthogonal to about 1e-7 per voxel


class SeparableSpacingd(Spacingd):
    """MONAI's ``Spacingd`` computed by separable 1-D gathers, with the same result, grid and inverse.

    Voxels agree with ``Spacingd`` to float32 rounding in ``"bilinear"`` mode and exactly in ``"nearest"`` mode, ties
    included, because the sampling coordinates are computed in float64 by the same formula. (For an oblique affine
    the axes are orthogonal only to rounding, so that a label exactly between two voxels, to 0.001 voxel, may fall to
    the other one.) A sheared affine, which ``Spacingd`` straightens, mixes the
    axes and is left to MONAI's own resampling. The applied operation is recorded as MONAI does, so that ``Invertd``
    works.

    Args:
        keys: entries of the data to resample, `MetaTensor` (C, H, W, D).
        pixdim: wanted spacing, mm; a value <= 0 keeps the axis as it is.
        mode: ``"bilinear"`` for images, ``"nearest"`` for labels; one for all or one per key.
        allow_missing_keys: pass over keys that the data do not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        pixdim: Sequence[float] | float,
        mode: Sequence[str] | str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, pixdim=pixdim, mode=mode, padding_mode="border", allow_missing_keys=allow_missing_keys)
        self.spacing_transform.sp_resample = _SeparableResample(padding_mode="border", dtype=np.float64)


class _SeparableResample(SpatialResample):
    """MONAI's resampling, by axes where the two grids share their directions; `Spacing` calls it by keywords."""

    def __call__(self, img: Any, *args: Any, **options: Any) -> torch.Tensor:
        mode = str(getattr(options.get("mode"), "value", options.get("mode")))
        fitting = isinstance(img, MetaTensor) and img.ndim in (3, 4) and not img.pending_operations
        if args or options.get("lazy") or mode not in ("bilinear", "nearest") or not fitting:
            return super().__call__(img, *args, **options)  # type: ignore[no-any-return]
        rank = img.ndim - 1
        before = [int(n) for n in img.shape[1:]]
        size = [int(n) for n in options["spatial_size"]]
        source = to_affine_nd(rank, img.affine).to(torch.float64)
        target = to_affine_nd(rank, options["dst_affine"]).to(torch.float64)
        xform = torch.as_tensor(np.linalg.solve(source.numpy(), target.numpy()))
        linear = xform[:rank, :rank]
        mixing = (linear - torch.diag(torch.diagonal(linear))).abs() @ torch.tensor(size, dtype=torch.float64)
        if float(mixing.max()) > _MIXING_VOXELS:
            return super().__call__(img, **options)  # type: ignore[no-any-return]
        same_grid = torch.allclose(source, target, atol=AFFINE_TOL) or torch.allclose(
            xform, torch.eye(rank + 1, dtype=torch.float64), atol=AFFINE_TOL
        )
        unchanged = size == before and same_grid
        record = self.track_transform_meta(
            img,
            sp_size=size,
            affine=None if unchanged else xform,
            extra_info={
                "dtype": "float64",
                "mode": mode,
                "padding_mode": "border",
                "align_corners": False,
                "src_affine": source,
            },
            orig_size=tuple(before),
            transform_info=self.get_transform_info(),
        )
        if unchanged:
            voxels = img.as_tensor().to(torch.float32)
        else:
            voxels = _resample(img.as_tensor(), xform, size, nearest=mode == "nearest")
        return MetaTensor(voxels).copy_meta_from(record)  # type: ignore[no-any-return]


def _resample(voxels: torch.Tensor, xform: torch.Tensor, size: Sequence[int], *, nearest: bool) -> torch.Tensor:
    """Sample (C, ...) at ``xform @ index`` along each axis, the edge voxel repeated outside; float32.

    Works on slabs that fit the cache, in the order of the memory (files keep the first axis fastest), and turns the
    (mostly smaller) result only.
    """
    lines = [
        _Line.at(position, length, nearest=nearest)
        for position, length in zip(_coordinates(xform, voxels.shape[1:], size), voxels.shape[1:], strict=True)
    ]
    result = torch.empty((len(voxels), *size), dtype=torch.float32)
    for channel, out in zip(voxels, result, strict=True):
        order = sorted(range(channel.ndim), key=channel.stride, reverse=True)
        slow, middle = lines[order[0]], [lines[axis] for axis in order[1:]]
        channel, out = channel.permute(order), out.permute(order)
        # where the slowest axis shrinks, only the slices that it reads are worth the other axes
        needed, places = torch.unique(torch.stack([slow.low, slow.high]), return_inverse=True)
        slow = _Line(places[0], places[1], slow.weight)
        # shrink first
        inner = sorted(range(1, channel.ndim), key=lambda axis: out.shape[axis] / channel.shape[axis])
        slices = torch.empty((len(needed), *out.shape[1:]), dtype=torch.float32)
        for part in _slabs(len(needed), channel[0].numel()):
            slab = channel.index_select(0, needed[part])
            for axis in inner:
                slab = middle[axis - 1].sample(slab, axis)
            slices[part] = slab
        for part in _slabs(out.shape[1], len(out) * out[0, 0].numel()):
            out[:, part] = slow.sample(slices[:, part], 0)
    return result


def _slabs(length: int, elements: int) -> list[slice]:
    """Ranges of an axis that has so many elements per index, each small enough for the cache."""
    step = max(1, _SLAB // elements)
    return [slice(start, start + step) for start in range(0, length, step)]


class _Line(NamedTuple):
    """How one axis is sampled: the voxels on both sides and the weight of the upper; no weight takes the lower."""

    low: torch.Tensor
    high: torch.Tensor
    weight: torch.Tensor | None

    @classmethod
    def at(cls, position: torch.Tensor, length: int, *, nearest: bool) -> "_Line":
        position = position.clamp(0, length - 1)
        if nearest:
            low = position.round().long()
            return cls(low, low, None)
        low = position.floor()
        return cls(low.long(), (low.long() + 1).clamp(max=length - 1), (position - low).to(torch.float32))

    def sample(self, voxels: torch.Tensor, axis: int) -> torch.Tensor:
        below = voxels.index_select(axis, self.low)
        if self.weight is None:
            return below
        weight = self.weight.reshape([-1 if a == axis else 1 for a in range(voxels.ndim)])
        above = voxels.index_select(axis, self.high).to(torch.float32)
        return below.to(torch.float32).lerp_(above, weight.expand_as(above))


def _coordinates(xform: torch.Tensor, before: Sequence[int], size: Sequence[int]) -> list[torch.Tensor]:
    """Sampling positions along each axis, by the steps of MONAI's ``AffineTransform`` so that ties round alike."""
    rank = len(before)
    theta = to_norm_affine(xform[None], before, size, align_corners=False)[:, :rank]
    order = list(range(rank - 1, -1, -1))
    theta = torch.cat((theta[:, order][:, :, order], theta[:, order, rank:]), dim=2)
    positions = []
    for axis in range(rank):
        one_line = [size[a] if a == axis else 1 for a in range(rank)]
        grid = torch.nn.functional.affine_grid(theta, [1, 1, *one_line], align_corners=False)
        line = grid.reshape(-1, rank)[:, rank - 1 - axis]
        positions.append(((line + 1) * before[axis] - 1) / 2)
    return positions
