"""Every loss of every iteration as a table."""

import csv
import io
import itertools
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from mtmed.distributed import rank
from mtmed.files import atomic_file, write_error

__all__ = ["LossHistory"]


class LossHistory:
    """Writes ``iteration, loss, <each loss by name>, learning_rate`` to a CSV file.

    Rows are written at the end of each epoch, and when the run is interrupted (`mtmed.handlers.Checkpoint`). Numbers
    are written so that reading them gives the same bits. A resumed run cuts the file back to its checkpoint.

    Args:
        path: the CSV file.
    """

    def __init__(self, *, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: list[dict[str, float]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the checkpoint handler."""
        if rank() == 0:
            engine.add_event_handler(Events.STARTED, self._cut_back)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
            engine.add_event_handler(Events.EPOCH_COMPLETED | Events.INTERRUPT, self._write)

    def _cut_back(self, engine: Any) -> None:
        self._rows = []
        if not self.path.is_file():
            return
        with open(self.path, newline="") as file:
            rows = csv.DictReader(file)
            kept = list(itertools.takewhile(lambda row: _is_before(row, engine.state.iteration), rows))
        text = io.StringIO(newline="")
        if kept:
            writer = csv.DictWriter(text, fieldnames=list(kept[0]))
            writer.writeheader()
            writer.writerows(kept)
        with atomic_file(self.path) as whole:
            whole.write(text.getvalue().encode())

    def _add(self, engine: Any) -> None:
        output = engine.state.output
        self._rows.append(
            {
                "iteration": engine.state.iteration,
                "loss": output["loss"],
                **output["losses"],
                "learning_rate": output["learning_rate"],
            }
        )

    def _write(self) -> None:
        if not self._rows:
            # an epoch of which only the end was left had its rows written when it was interrupted
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not self.path.is_file() or self.path.stat().st_size == 0
            with open(self.path, "a", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(self._rows[0]))
                if fresh:
                    writer.writeheader()
                writer.writerows(self._rows)
        except OSError as error:
            raise write_error(self.path, error) from error
        self._rows = []


def _is_before(row: dict[str, str | None], iteration: int) -> bool:
    """Whether a row belongs to the checkpoint; a killed process may leave half a row after these."""
    return None not in row.values() and int(row.get("iteration") or iteration + 1) <= iteration
