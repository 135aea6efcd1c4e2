"""Which cases a batch was made of, to name them in a message."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["case_names"]

_NAMES = ("output_name", "case")  # keys of the name of a case that is predicted or scored


def case_names(loader: Any, batch: Mapping[str, Any]) -> list[str]:
    """Name of each case of a batch, in the order in which they come, each once.

    Batches of stored volumes (`mtmed.data.CropDataset`, `mtmed.data.WholeVolumes`) have the numbers of the volumes: the
    loader's data set tells their keys; without it the numbers are the names. Others have names of their own.

    Args:
        loader: what gave the batch.
        batch: as the loader gave it.
    """
    while hasattr(loader, "dataset"):
        loader = loader.dataset
    volumes = getattr(loader, "volumes", None)
    numbers = _numbers(batch)
    if numbers:
        return [f"case {number}" if volumes is None else volumes[number].case.key for number in numbers]
    return list(dict.fromkeys(_own_names(batch)))


def _numbers(batch: Mapping[str, Any]) -> list[int]:
    parts = [batch, *(part for part in batch.values() if isinstance(part, Mapping))]
    given = (part["volume"] for part in parts if isinstance(part.get("volume"), Tensor))
    return list(dict.fromkeys(number for volumes in given for number in volumes.tolist()))


def _own_names(batch: Mapping[str, Any]) -> list[str]:
    for key in _NAMES:
        names = batch.get(key)
        if names is not None:
            return [str(name) for name in ([names] if isinstance(names, str) else names)]
    return []
