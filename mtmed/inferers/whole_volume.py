"""The inferer that shows a network whole volumes, by the settings of its weights file."""

from collections.abc import Mapping
from typing import Any

from mtmed.errors import InputError
from mtmed.inferers.slices import SliceInferer
from mtmed.inferers.windows import WindowInferer

__all__ = ["WholeVolumeInferer", "whole_volume_inferer"]

WholeVolumeInferer = SliceInferer | WindowInferer
"""Gives logits, B K D H W float32, of images, B C D H W."""

_SLICES, _WINDOWS = 32, 2


def whole_volume_inferer(
    settings: Mapping[str, Any], *, batch_size: int | None = None, overlap: float = 0.5
) -> WholeVolumeInferer:
    """Slices for a 2D network, sliding windows for a 3D one.

    Args:
        settings: of the network: ``slice_offsets`` and ``features`` of a 2D network; where the offsets are None,
            ``patch_size`` of a 3D network.
        batch_size: slices or windows per call of the network; None for 32 slices or 2 windows.
        overlap: of neighbouring windows; slices have none.

    Raises:
        InputError: `overlap` is out of range, for a 2D network too.
        ValueError: see `SliceInferer` and `WindowInferer`.
    """
    if not 0 <= overlap < 1:
        raise InputError("overlap", f"is {overlap}", "give a share from 0 and below 1, for example 0.5")
    offsets = settings.get("slice_offsets")
    if offsets is None:
        size = settings["patch_size"]
        return WindowInferer(
            patch_size=size, overlap=overlap, batch_size=_WINDOWS if batch_size is None else batch_size
        )
    return SliceInferer(
        slice_offsets=offsets,
        feature_planes=len(settings.get("features", ())),
        batch_size=_SLICES if batch_size is None else batch_size,
    )
