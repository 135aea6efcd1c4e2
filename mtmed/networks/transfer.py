"""A pre-trained encoder copied into a network, and the account of what arrived."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mtmed.errors import InputError
from mtmed.networks.weights import load_weights

__all__ = ["TransferReport", "transfer_encoder"]


@dataclass(frozen=True)
class TransferReport:
    """What arrived in a network from a weights file.

    Attributes:
        transferred: names of the tensors that were copied.
        expected: number of tensors of the network's encoder.
        left_in_file: tensors of the file that the encoder has no place for.
        fresh: tensors of the network that keep their initial values.
        decoder: how many of the transferred ones are not of the encoder.
    """

    transferred: tuple[str, ...]
    expected: int
    left_in_file: tuple[str, ...]
    fresh: tuple[str, ...]
    decoder: int = 0

    def __str__(self) -> str:
        text = f"encoder: {len(self.transferred) - self.decoder} of {self.expected} tensors transferred"
        if self.decoder:
            text += f", and {self.decoder} of the decoder"
        text += f"; {len(self.fresh)} of the network start fresh"
        if self.left_in_file:
            text += f"; left in the file: {len(self.left_in_file)} ({self.left_in_file[0]}, ...)"
        return text


def transfer_encoder(network: nn.Module, path: str | Path) -> TransferReport:
    """Copy a pre-trained encoder into a network; all of it must arrive.

    Args:
        network: a network with ``encoder_prefixes``.
        path: weights file of a pre-training run.

    Raises:
        InputError: if a tensor of the encoder is missing in the file or has another shape: a network that silently
            starts from scratch is the classic fault of pre-training.
    """
    state = load_weights(path)["model"]
    prefixes: tuple[str, ...] = network.encoder_prefixes  # type: ignore[assignment]
    own = network.state_dict()
    encoder = [name for name in own if name.startswith(prefixes)]
    fits = [name for name in encoder if name in state and state[name].shape == own[name].shape]
    if len(fits) < len(encoder):
        culprit = next(name for name in encoder if name not in fits)
        found = list(state[culprit].shape) if culprit in state else "missing"
        raise InputError(
            path,
            f"only {len(fits)} of the encoder's {len(encoder)} tensors fit ({culprit}: {found} in the file, "
            f"{list(own[culprit].shape)} in the network)",
            "pass the encoder.pt of a pre-training run of the same network",
        )
    network.load_state_dict({name: state[name] for name in fits}, strict=False)
    return TransferReport(
        transferred=tuple(fits),
        expected=len(encoder),
        left_in_file=tuple(name for name in state if name not in fits),
        fresh=tuple(name for name in own if name not in fits),
    )
