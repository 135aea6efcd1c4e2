"""A handler for tests: what each process of a training was fed, and what it had in the end."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from mtmed.distributed import rank

__all__ = ["RankRecord"]

_KEPT = ("volume", "slice", "group", "image", "label")


class RankRecord:
    """Writes ``rank<number>.pt``: of each iteration the batch and the losses, and the last weights.

    Of a batch in which samples have further roles, these stand under ``role/name``.

    Args:
        folder: where to.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.batches: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _keep(self, engine: Any) -> None:
        batch = {name: value.clone() for name, value in _flat(engine.state.batch)}
        self.batches.append({**batch, "losses": dict(engine.state.output["losses"])})

    def _write(self, engine: Any) -> None:
        weights = {name: value.clone() for name, value in engine.multi_task_model.state_dict().items()}
        torch.save({"batches": self.batches, "weights": weights}, self.folder / f"rank{rank()}.pt")


def _flat(batch: Mapping[str, Any], role: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in batch.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}/")
        elif name in _KEPT:
            yield role + name, value
