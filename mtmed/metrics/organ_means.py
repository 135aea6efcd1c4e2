"""A mean per organ and the mean of the organs, as an Ignite metric over several processes."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced

from mtmed.distributed import total
from mtmed.metrics.scores import EmptyPolicy

__all__ = ["OrganMeans"]


class OrganMeans(Metric):
    """Sums and counts of each organ; a subclass adds to them in ``update``. Usable as MONAI's ``key_val_metric``.

    ``engine.state.metrics`` gets the mean under the metric's name, and ``name/organ`` for each organ that has a value.

    Args:
        organs: names of the organs.
        empty: what two empty masks score: ``"nan"`` (left out), ``"zero"`` or ``"one"``.
        output_transform: from the engine's output to what ``update`` takes.
        device: where sums are kept.

    Raises:
        ValueError: if the rule is unknown.
    """

    def __init__(
        self,
        organs: Sequence[str],
        *,
        empty: EmptyPolicy,
        output_transform: Callable[..., Any],
        device: torch.device | str = "cpu",
    ) -> None:
        if empty not in ("nan", "zero", "one"):
            raise ValueError(f"empty is {empty!r}; choose 'nan', 'zero' or 'one'.")
        self.names = tuple(organs)
        self.empty = empty
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def reset(self) -> None:
        """Forget all values."""
        self._sums = torch.zeros(len(self.names), dtype=torch.float64, device=self._device)
        self._counts = torch.zeros(len(self.names), dtype=torch.float64, device=self._device)

    def per_organ(self) -> dict[str, float]:
        """Mean of each organ that has a value."""
        sums, counts = self._reduced()
        return {
            name: float(added / count) for name, added, count in zip(self.names, sums, counts, strict=True) if count > 0
        }

    def compute(self) -> float:
        """Mean over the organs that have a value, NaN if none has."""
        values = list(self.per_organ().values())
        return sum(values) / len(values) if values else float("nan")

    def _reduced(self) -> tuple[torch.Tensor, torch.Tensor]:
        # Ignite's own reduction makes a new group each time, for which it waits even if the other process is gone
        return total(self._sums), total(self._counts)

    def completed(self, engine: Engine, name: str) -> None:
        """Put the mean and the values per organ into the engine's metrics."""
        super().completed(engine, name)
        for organ, value in self.per_organ().items():
            engine.state.metrics[f"{name}/{organ}"] = value
