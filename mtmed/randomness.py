"""Random numbers as a pure function of (seed, step, position, stream).

Nothing here has a state that survives a call, so the number of loader workers, restarts and what ran before change
nothing, and any sample can be replayed alone.
"""

import hashlib

import numpy as np
import torch

__all__ = ["random_generator", "stream_key", "torch_generator"]


def stream_key(seed: int, step: int, position: int, stream: str) -> int:
    """Hash a place in a run to a 64-bit key.

    Args:
        seed: seed of the run.
        step: optimiser step, counted from 0.
        position: position in the global batch (over all processes), counted from 0.
        stream: name of what is drawn, for example ``"crop"`` or ``"elastic"``, so that the streams are independent.
    """
    text = f"{seed}/{step}/{position}/{stream}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def random_generator(seed: int, step: int, position: int, stream: str) -> np.random.Generator:
    """NumPy generator (counter-based Philox) for parameters, which are drawn on the CPU so that devices agree.

    Args: see `stream_key`.
    """
    return np.random.Generator(np.random.Philox(key=stream_key(seed, step, position, stream)))


def torch_generator(
    seed: int, step: int, position: int, stream: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Torch generator for noise per voxel, which is drawn on the device.

    Args: see `stream_key`; ``device`` is where the numbers are drawn.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(stream_key(seed, step, position, stream) >> 1)
    return generator
