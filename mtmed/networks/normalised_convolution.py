"""Convolutions after a group normalisation of concatenated maps, whose inner results need not be kept."""

from collections.abc import Sequence
from typing import cast

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

__all__ = ["ConvolutionChain", "NormalisedConvolution", "double_convolution"]


class NormalisedConvolution(nn.Module):
    """Concatenation, group normalisation, ReLU, then one or more convolutions.

    Concatenating here, and not in the caller, is what makes memory-efficient dense blocks possible: with `recompute`
    only the maps themselves are kept for the backward pass, once however many layers read them. What is made of them
    (the concatenation, the normalised map, the inputs of the convolutions) is computed again. Values and gradients stay
    the same. Source: Pleiss et al. 2017, "Memory-Efficient Implementation of DenseNets".

    MONAI's ``Convolution`` has its normalisation after the convolution, and its dense layers have a bottleneck.

    Args:
        channels: channels of the concatenation; a multiple of `groups`.
        convolutions: applied one after the other.
        groups: groups of the normalisation.
        recompute: compute the inner results again in the backward pass instead of keeping them.
    """

    def __init__(self, channels: int, convolutions: Sequence[nn.Module], *, groups: int, recompute: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.convolutions = nn.Sequential(*convolutions)
        self.recompute = recompute

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Convolve.

        Args:
            maps: B C_i H W [D], of one size.

        Returns:
            B C H' W' [D'].
        """
        if self.recompute and torch.is_grad_enabled() and not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._recomputed(maps)
        return self._computed(maps)

    def _computed(self, maps: list[Tensor]) -> Tensor:
        joined = torch.cat(maps, 1) if len(maps) > 1 else maps[0]
        return self.convolutions(functional.relu(self.norm(joined), inplace=True))  # type: ignore[no-any-return]

    @torch.jit.unused
    def _recomputed(self, maps: list[Tensor]) -> Tensor:
        # nothing is drawn at random, so the random state is left alone
        return cast(
            Tensor,
            checkpoint(
                lambda *inputs: self._computed(list(inputs)), *maps, use_reentrant=False, preserve_rng_state=False
            ),
        )


class ConvolutionChain(nn.ModuleList):
    """Normalised convolutions one after the other; the first reads several maps, the others what came before."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """From maps B C_i H W [D] of one size to B C H' W' [D']."""
        for layer in self:
            maps = [layer(maps)]
        return maps[0]


def double_convolution(
    channels: int, out_channels: int, *, groups: int, recompute: bool, spatial_dims: int
) -> ConvolutionChain:
    """Two 3³ convolutions, each after group normalisation and ReLU: the block of a plain decoder."""
    convolution = Conv[Conv.CONV, spatial_dims]
    return ConvolutionChain(
        NormalisedConvolution(
            before, [convolution(before, out_channels, kernel_size=3, padding=1)], groups=groups, recompute=recompute
        )
        for before in (channels, out_channels)
    )
