"""How much memory a computation would hold at its peak, found by carrying it out without data."""

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = ["LiveMemory", "tensor_bytes"]


def tensor_bytes(module: nn.Module, *, trained_only: bool = False) -> int:
    """Bytes of the parameters and buffers of a module, each once; with ``trained_only`` of what has a gradient."""
    tensors: list[Tensor] = [item for item in module.parameters() if item.requires_grad or not trained_only]
    if not trained_only:
        tensors += module.buffers()
    return sum(tensor.numel() * tensor.element_size() for tensor in {id(item): item for item in tensors}.values())


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made within it and still held, and keeps the peak.

    On the meta device nothing is allocated or computed, but autograd saves and frees exactly the tensors that it would
    on a real device, so the peak is that of forward and backward pass. Scratch memory inside of single operations,
    which depends on the machine's libraries, is not counted.

    Attributes:
        peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._held: dict[int, int] = {}
        self._sum = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, result)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._held:
            return
        self._held[key] = storage.nbytes()
        self._sum += self._held[key]
        self.peak = max(self.peak, self._sum)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._sum -= self._held.pop(key, 0)


def meta_tensor(*shape: int) -> Tensor:
    """A float32 tensor without memory."""
    return torch.empty(*shape, device="meta")
