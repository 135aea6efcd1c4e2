"""Which tensors a weights file may hold."""

import torch

__all__ = ["is_plain_tensor"]

_KINDS = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)


def is_plain_tensor(value: object) -> bool:
    """Whether a value is a dense tensor of numbers that are all there.

    A file may declare a tensor larger than what it holds, as one number that stands for many: of no use in weights, and
    whatever looks at its values fills the memory.
    """
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.dtype in _KINDS and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
