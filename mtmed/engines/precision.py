"""Which floating-point type a network runs in."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtmed.errors import InputError

__all__ = ["Precision", "choose_precision", "keep_thin_maps_in_float32"]

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


def keep_thin_maps_in_float32(model: nn.Module) -> None:
    """Take 3D convolutions of maps that are two voxels high out of autocast on the CPU.

    There, bfloat16 weight gradients of a padded 3 x 3 x 3 convolution are computed from memory that was never written
    if the first spatial side is 2 (torch 2.13 with oneDNN 3.12 and AVX512-BF16): NaN, or wrong without a sign of it.

    Args:
        model: gets hooks on its convolutions.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(_leave_autocast)
            module.register_forward_hook(_return_to_autocast, always_call=True)


def _is_thin(inputs: tuple[Tensor, ...]) -> bool:
    return inputs[0].device.type == "cpu" and inputs[0].shape[2] == 2


def _leave_autocast(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    if not (_is_thin(inputs) and torch.is_autocast_enabled("cpu")):
        return None
    object.__setattr__(module, "_left_autocast", True)
    torch.set_autocast_enabled("cpu", False)
    return (inputs[0].float(),)


def _return_to_autocast(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
    if module.__dict__.pop("_left_autocast", False):
        torch.set_autocast_enabled("cpu", True)
