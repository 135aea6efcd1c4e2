"""What a pre-training run hands on: the encoder, and what of the decoder it has taught.

Pre-training with a task that reads the decoded map teaches the decoder too; with one that reads the encoder alone, the
decoder stays as it was drawn. The head is of the task that is trained, so it is never handed on.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtmed.errors import InputError
from mtmed.networks.transfer import TransferReport
from mtmed.networks.weights import load_weights, save_tensors

__all__ = ["SHARED", "save_shared", "transfer_shared"]

SHARED = "shared"
"""Value of a weights file's key ``kind`` if `save_shared` wrote it."""


def save_shared(
    path: str | Path, network: nn.Module, settings: Mapping[str, Any], *, trained: Collection[str] | None = None
) -> None:
    """Write the weights file of the encoder and of the decoder's trained tensors, without the head.

    Buffers, such as the running moments of batch normalisation, go with the parameters of their layer.

    Args:
        path: weights file.
        network: an encoder-decoder made by `mtmed.networks.build_network`.
        settings: what is needed to feed the network again.
        trained: names of the parameters that losses reached; None for those that require a gradient, which is what
            `mtmed.tasks.MultiTaskModel` leaves.

    Raises:
        InputError: a tensor is not finite, or the file cannot be written.
        ValueError: a name is of no parameter.
    """
    parameters = dict(network.named_parameters())
    if trained is None:
        trained = [name for name, parameter in parameters.items() if parameter.requires_grad]
    unknown = sorted(set(trained) - set(parameters))
    if unknown:
        raise ValueError(f"trained names {unknown[0]!r}; allowed are the network's parameters; take them from it.")
    prefixes: tuple[str, ...] = network.encoder_prefixes  # type: ignore[assignment]
    layers = {_layer(name) for name in trained}
    head = _head_layers(network)

    def keep(name: str) -> bool:
        if name.startswith(prefixes):
            return True
        reached = name in trained if name in parameters else _layer(name) in layers
        return reached and _layer(name) not in head

    save_tensors(path, network, settings, keep=keep, kind=SHARED)


def transfer_shared(network: nn.Module, path: str | Path) -> TransferReport:
    """Copy what pre-training handed on into a network; its whole encoder must arrive, and all of the file must fit.

    Args:
        network: a network with ``encoder_prefixes``.
        path: weights file that `save_shared` wrote.

    Raises:
        InputError: the file is of another kind, lacks a tensor of the encoder, or has one that does not fit.
    """
    content = load_weights(path)
    remedy = "pass the shared.pt of a pre-training run of the same network"
    if content.get("kind") != SHARED:
        raise InputError(path, "is not what a pre-training run shares", remedy)
    state, own = content["model"], network.state_dict()
    encoder = [name for name in own if name.startswith(network.encoder_prefixes)]  # type: ignore[arg-type]
    fits = [name for name in own if name in state and state[name].shape == own[name].shape]
    wanted = dict.fromkeys([*encoder, *state])
    culprit = next((name for name in wanted if name not in fits), None)
    if culprit is not None:
        there, here = (list(one[culprit].shape) if culprit in one else "missing" for one in (state, own))
        shapes = f"{culprit}: {there} in the file, {here} in the network"
        raise InputError(path, f"only {len(fits)} of {len(wanted)} tensors fit ({shapes})", remedy)
    network.load_state_dict(state, strict=False)
    return TransferReport(
        transferred=tuple(fits),
        expected=len(encoder),
        left_in_file=(),
        fresh=tuple(name for name in own if name not in fits),
        decoder=len(fits) - len(encoder),
    )


def _layer(name: str) -> str:
    """Name of the layer that a tensor belongs to."""
    return name.rpartition(".")[0]


@torch.no_grad()
def _head_layers(network: Any) -> set[str]:
    """Names of the layers that ``head`` calls."""
    called: set[nn.Module] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.add(module))
        for module in network.modules()
        if module is not network
    ]
    parameter = next(network.parameters())
    try:
        # four voxels a side, so that a head with a wider kernel finds its neighbours
        size = (1, network.decoder_channels, *(4,) * network.spatial_dims)
        network.head(torch.zeros(size, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return {name for name, module in network.named_modules() if module in called}
