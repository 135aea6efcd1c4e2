"""Pixel sampling of MixCL: a budget of voxels per class, drawn by a map that favours voxels just inside the boundary.

Source: Li, Quan, Zhou 2022 (arXiv 2203.02114), Section 2.3.3 and Eq 7. Voxels are drawn on the grid of the feature map
that is compared, so labels and weights are first brought to that grid with `nearest_downsample`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtmed.errors import InputError

__all__ = ["PixelSample", "boundary_weight", "nearest_downsample", "sample_pixels", "take_pixels"]


class PixelSample(NamedTuple):
    """Voxels drawn from a batch, ordered by image, class and draw.

    Attributes:
        batch: index of the image in the batch, int64, shape ``N``.
        voxel: flat index (row-major) into the spatial grid, int64, shape ``N``.
        label: label value of the voxel, int64, shape ``N``.
    """

    batch: Tensor
    voxel: Tensor
    label: Tensor


def boundary_weight(distance: Tensor, *, mu: float = 8.0, epsilon: float = 0.05) -> Tensor:
    """Turn distances to the class boundary into weights for drawing: ``W = 1/2 sqrt(D) exp(-D / mu) + epsilon``.

    W(0) = 0.05, W(1) = 0.49, the maximum 0.66 lies at D = mu / 2 = 4 voxels, W(16) = 0.32. So voxels a little inside
    the boundary are favoured and the boundary itself is avoided; the paper's "closer to the boundary, higher" holds
    beyond mu / 2.

    Source: MixCL Eq 7.

    Args:
        distance: Euclidean distance from each voxel to the boundary of its own class region, in voxels, any shape.
        mu: decay length in voxels, > 0.
        epsilon: weight far from any boundary, >= 0.

    Returns:
        Weights of the same shape, in float32 (float64 for float64 input).

    Raises:
        InputError: an option is out of range.
    """
    if not mu > 0:
        raise InputError("mu", f"{mu} is not > 0", "give the decay length in voxels, 8 in the paper")
    if not epsilon >= 0:
        raise InputError("epsilon", f"{epsilon} is not >= 0", "give 0 or a positive weight, 0.05 in the paper")
    # distances interpolated at a border may dip below 0
    distance = distance.to(torch.promote_types(distance.dtype, torch.float32)).clamp(min=0)
    return 0.5 * distance.sqrt() * torch.exp(-distance / mu) + epsilon


def nearest_downsample(tensor: Tensor, size: Sequence[int]) -> Tensor:
    """Bring a map to the grid of a feature map by picking one voxel of each feature voxel's footprint.

    A feature map of stride s has in its voxel i the input voxels ``s i .. s i + s - 1``. The voxel at their centre,
    ``s i + s // 2`` (the upper of the two middle ones for even s, as torch's ``nearest-exact``), is picked along each
    axis. Labels, weights and distances downsampled by this function are therefore those of the same voxel.

    Args:
        tensor: shape ``B C *spatial``, any dtype and number of axes.
        size: spatial size of the feature map; each must divide the tensor's.

    Returns:
        A view of shape ``B C *size``.

    Raises:
        InputError: a size does not divide the tensor's, or the number of axes differs.
    """
    spatial = tuple(tensor.shape[2:])
    if len(size) != len(spatial) or any(small < 1 or full % small for full, small in zip(spatial, size, strict=False)):
        raise InputError(
            "feature map size",
            f"{tuple(size)} is no integer fraction of the label's {spatial}",
            "choose a patch size that the strides of the network divide",
        )
    for axis, (full, small) in enumerate(zip(spatial, size, strict=True), start=2):
        stride = full // small
        index = [slice(None)] * tensor.dim()
        index[axis] = slice(stride // 2, None, stride)
        tensor = tensor[tuple(index)]
    return tensor


def sample_pixels(
    weight: Tensor,
    label: Tensor,
    *,
    per_class: int,
    generators: Sequence[torch.Generator],
    background: bool = True,
) -> PixelSample:
    """Draw voxels of every class of every image, without replacement, with probability proportional to a weight.

    For each image and each label value in it, ``min(per_class, n)`` voxels are drawn, n being the number of its voxels
    of weight > 0, as by drawing one after the other with probability proportional to the weight among those left. (Each
    voxel gets an exponential random time of rate W; the earliest are taken: Efraimidis and Spirakis 2006.)

    Args:
        weight: weights >= 0, shape ``B 1 *spatial``; voxels of weight 0 (or NaN) are never drawn.
        label: label values >= 0, integer, shape ``B 1 *spatial``.
        per_class: budget r, voxels per class and image, >= 1.
        generators: one generator per image; the voxels drawn in an image depend on its own generator, weight and label
            alone.
        background: whether label 0 is drawn too.

    Returns:
        The drawn voxels, on the device of `label`.

    Raises:
        InputError: shapes or counts that do not fit.
    """
    if per_class < 1:
        raise InputError("per_class", f"{per_class} is not >= 1", "give the number of voxels to draw per class")
    if weight.shape != label.shape or label.dim() < 3 or label.shape[1] != 1:
        raise InputError(
            "sample_pixels",
            f"weight of shape {tuple(weight.shape)} and label of shape {tuple(label.shape)}",
            "give both as (batch, 1, *spatial)",
        )
    if len(generators) != label.shape[0]:
        raise InputError("generators", f"{len(generators)} for {label.shape[0]} images", "give one generator per image")
    batches, voxels, labels = [], [], []
    for image, generator in enumerate(generators):
        values = label[image].flatten()
        keys = _random_keys(weight[image].detach().flatten(), generator)
        counts = torch.bincount(values)
        if len(counts) <= 256:
            values = values.to(torch.uint8)  # sorted much faster than wider integers
        order = values.argsort(stable=True)
        keys = keys.index_select(0, order)
        start = 0
        for value, count in enumerate(counts.tolist()):
            if count and (value or background):
                first = keys[start : start + count].topk(min(per_class, count))
                chosen = order[start + first.indices[first.values > 0]]
                batches.append(torch.full_like(chosen, image))
                voxels.append(chosen)
                labels.append(torch.full_like(chosen, value))
            start += count
    if not voxels:
        empty = torch.empty(0, dtype=torch.int64, device=label.device)
        return PixelSample(empty, empty, empty)
    return PixelSample(torch.cat(batches), torch.cat(voxels), torch.cat(labels))


def _random_keys(rates: Tensor, generator: torch.Generator) -> Tensor:
    """Inverses of exponential times of the given rates, not above 0 where nothing may be drawn; largest come first."""
    rates = rates.to(torch.promote_types(rates.dtype, torch.float32))
    uniform = torch.rand(rates.shape, generator=generator, dtype=rates.dtype, device=generator.device).to(rates.device)
    # below 1 by torch's promise; a 0 would never be drawn
    keys = rates / uniform.clamp_(min=torch.finfo(rates.dtype).tiny).log_().neg_()
    return keys.nan_to_num_(nan=0.0, posinf=torch.inf)


def take_pixels(features: Tensor, sample: PixelSample) -> Tensor:
    """Read the feature vectors of drawn voxels, with a gradient that is the same in every run.

    Args:
        features: shape ``B C *spatial`` on the grid that the sample was drawn on.
        sample: the voxels.

    Returns:
        Shape ``N C``, row k being the vector of voxel k. Where N is 0 it is still attached to the graph.
    """
    channels, voxels = features.shape[1], features.shape[2:].numel()
    # one index per number: neither the map nor its gradient is transposed, and index_select's backward adds in a fixed
    # order, unlike that of features[batch, :, voxel]
    rows = sample.batch[:, None] * channels + torch.arange(channels, device=sample.batch.device)
    places = rows * voxels + sample.voxel[:, None]
    return features.reshape(-1).index_select(0, places.flatten()).view(-1, channels)
