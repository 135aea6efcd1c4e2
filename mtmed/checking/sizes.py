"""How large the images are that a config shows its network, as far as it says so."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtmed.checking.lazy_config import LazyConfig
from mtmed.checking.unknown import holds_unknown

__all__ = ["batch_sizes", "window_of"]


def batch_sizes(config: LazyConfig, draw: Any, volume: Sequence[int] | None) -> dict[str, list[int]]:
    """Sides of the image of each role that a draw makes, voxels; empty if they cannot be told.

    Args:
        config: for the image size of 2D networks.
        draw: of `mtmed.data`.
        volume: sides of the largest volume after resampling, if known.
    """
    parts = {"patch": getattr(draw, "segmentation", None), "auxiliary": getattr(draw, "auxiliary", None)}
    if any(part is not None for part in parts.values()):
        sizes = {}
        for role, part in parts.items():
            if part is not None and (inner := batch_sizes(config, part, volume)):
                sizes[role] = inner["patch"]
        if "auxiliary" in sizes:
            sizes["partner"] = sizes["auxiliary"]
        return sizes
    side = getattr(draw, "patch_size", None) or getattr(draw, "region_size", None)
    if side is not None:
        return {role: list(side) for role in ("patch", "auxiliary", "partner")}
    if hasattr(draw, "slice_offsets"):
        image_size = config.value("image_size")
        return {} if holds_unknown(image_size) else {role: list(image_size) for role in ("patch", "partner")}
    if hasattr(draw, "part") and volume is not None:
        first = -(-volume[0] // 2) if draw.part == "half" else volume[0]
        return {"patch": [first, *volume[1:]]}
    return {}


def window_of(inferer: Any, settings: Mapping[str, Any], volume: Sequence[int] | None) -> tuple[int, list[int]] | None:
    """How many windows or slices an inferer shows the network at once, and their sides; None if that cannot be told."""
    roi = getattr(inferer, "roi_size", None)
    number = getattr(inferer, "sw_batch_size", 1)
    if hasattr(inferer, "windows"):
        roi, number = inferer.patch_size, inferer.windows.sw_batch_size
    elif hasattr(inferer, "slice_offsets"):
        roi, number = settings.get("image_size"), inferer.batch_size
    if roi is None or holds_unknown(roi):
        return None
    sides = [roi] * 3 if isinstance(roi, int | float) else list(roi)
    if min(sides) < 1 or any(side != int(side) for side in sides):
        if volume is None:
            return None
        sides = [_side(side, whole) for side, whole in zip(sides, volume, strict=True)]
    return number, [int(side) for side in sides]


def _side(side: float, whole: int) -> int:
    return whole if side <= 0 else int(-(-side * whole // 1)) if side < 1 else int(side)
