"""Which floating-point type a network runs in."""

from typing import Literal

import torch

from mtmed.errors import InputError

__all__ = ["Precision", "choose_precision"]

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _bfloat16_pays(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # on CPUs without these instructions bfloat16 is emulated and several times slower
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and bool(has_instructions)


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The type for autocast; float32 means none.

    Args:
        precision: ``"auto"`` takes bfloat16 where the device has instructions for it and float32 elsewhere;
            ``"float16"`` (with loss scaling) is for older GPUs.
        device: where the network runs.

    Raises:
        InputError: for an unknown name, or float16 on a CPU.
    """
    allowed = ("auto", "float32", "bfloat16", "float16")
    if precision not in allowed:
        raise InputError("precision", f"is {precision!r}", f"choose one of {', '.join(allowed)}")
    if precision == "float16" and device.type != "cuda":
        raise InputError("precision", f"is float16 on {device.type}", "choose auto, float32 or bfloat16")
    if precision == "auto":
        return torch.bfloat16 if _bfloat16_pays(device) else torch.float32
    chosen: torch.dtype = getattr(torch, precision)
    return chosen
