"""How much memory a training step and an inference window need."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtmed.checking.live_memory import LiveMemory, meta_tensor, tensor_bytes
from mtmed.networks.centre_padding import crop_centre
from mtmed.tasks import MultiTaskModel
from mtmed.tasks.task import encode_view

__all__ = ["inference_bytes", "training_bytes"]

_STATE_TENSORS = {"Adam": 2, "AdamW": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2, "Adagrad": 1, "RMSprop": 2, "SGD": 1}


def training_bytes(
    model: MultiTaskModel,
    roles: Mapping[str, Sequence[int]],
    *,
    optimiser: str,
    batch_size: int,
) -> int:
    """Peak of the tensors of one training step in float32, in bytes.

    Parameters, buffers and optimiser state are counted; activations and gradients are those of a forward and a backward
    pass of the network on the meta device, over all views that the tasks read, each as deep as they read it, and over
    tensors of the size of the logits for the losses. Not counted are the program and its libraries (about 0.5 to 1 GB),
    augmentation, workers, and scratch memory of single operations.

    Args:
        model: network and tasks; it stays as it is.
        roles: sides in voxels of the image that each view shows, by the name of the view.
        optimiser: name of its class.
        batch_size: images per view.
    """
    trained = tensor_bytes(model, trained_only=True)
    copies = _STATE_TENSORS.get(optimiser, 2)
    twin: Any = copy.deepcopy(model.network).to("meta").train()
    with LiveMemory() as memory:
        alike = Counter((tuple(_size_of(name, roles)), depth) for name, depth in model._depth_of_view.items())
        views = [(_view(twin, number * batch_size, size, clean=True), depth) for (size, depth), number in alike.items()]
        torch.stack([_loss(twin, view, depth) for view, depth in views]).sum().backward()  # type: ignore[no-untyped-call]
    return tensor_bytes(model) + copies * trained + int(memory.peak)


def _size_of(view: str, roles: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Sides of a view; a task names those that it makes ``source/task``."""
    return roles.get(view) or roles.get(view.partition("/")[0]) or next(iter(roles.values()))


def _loss(network: Any, view: Mapping[str, Tensor], depth: int) -> Tensor:
    """A loss that keeps about as much as cross entropy and Dice together do."""
    encoded = encode_view(network, view)
    if depth == 0:
        return torch.stack([level.square().mean() for level in encoded]).sum()
    decoded = crop_centre(network.decode(encoded), list(view["image"].shape[2:]))
    if depth == 1:
        return torch.stack([decoded.square().mean()]).sum()
    logits = network.head(decoded)
    target, probabilities = torch.empty_like(logits), logits.sigmoid()
    overlap = (probabilities * target).sum() / (probabilities + target).sum()
    loss: Tensor = functional.binary_cross_entropy_with_logits(logits, target) + overlap
    return loss


def inference_bytes(network: nn.Module, *, windows: int, size: Sequence[int]) -> int:
    """Peak of the tensors of one call of a network in float32 without gradients, its parameters included, in bytes.

    Args:
        network: of mtmed; it stays as it is.
        windows: per call.
        size: sides of a window.
    """
    twin: Any = copy.deepcopy(network).to("meta").eval()
    with LiveMemory() as memory, torch.no_grad():
        view = _view(twin, windows, size, clean=False)
        features = encode_view(twin, view)
        twin.head(crop_centre(twin.decode(features), list(size)))
    return tensor_bytes(network) + int(memory.peak)


def _view(network: Any, number: int, size: Sequence[int], *, clean: bool) -> dict[str, Tensor]:
    view = {"image": meta_tensor(number, network.in_channels, *size)}
    if clean:
        view |= {"clean": meta_tensor(number, network.in_channels, *size), "label": meta_tensor(number, 1, *size)}
    if features := getattr(network, "condition_features", ()):
        view["condition"] = meta_tensor(number, len(features))
    return view
