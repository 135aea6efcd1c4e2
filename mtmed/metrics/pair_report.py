"""The accuracy of same-side and opposite-side pairs as files: means with their intervals, and a row per patient."""

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from mtmed.data.region import SIDES
from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.files import require_writable_folder
from mtmed.metrics.interval import Interval
from mtmed.metrics.pair_scores import PAIR_INTERVAL, PAIR_KINDS, PairScores
from mtmed.metrics.tables import finite_or_none, write_json, write_rows

__all__ = ["PairReport", "summarise_pairs"]

_ACCURACY = (
    "share of right verdicts among the pairs that a patient's kidneys are part of, mean over the kinds of pairs, mean "
    "over patients"
)


class PairReport:
    """Handler that writes ``summary.json`` and ``scores.csv`` after each validation in place of those of the last one.

    Attach it to an evaluator with `PairAccuracy` among its metrics. The first file has the accuracies with their
    intervals (see `summarise_pairs`), the second a row per patient: its number of kidneys, and for either kind of pairs
    their number and the share of right verdicts; an undefined share is an empty cell.
    ``epoch`` is the epoch that was validated.

    Args:
        output_dir: folder of the two files.
    """

    def __init__(self, *, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator; with several processes the first one writes."""
        if rank() == 0:
            engine.add_event_handler(Events.COMPLETED, self._write)

    def _write(self, engine: Any) -> None:
        found = [one for one in engine.state.metric_details.values() if isinstance(one, PairScores)]
        if not found:
            raise InputError("PairReport", "the evaluator does not score pairs", "add PairAccuracy to its metrics")
        folder = require_writable_folder(self.output_dir)
        write_rows(folder / "scores.csv", _rows(found[0]))
        write_json(folder / "summary.json", {"epoch": engine.state.epoch, **summarise_pairs(found[0])})


def summarise_pairs(scores: PairScores, *, seed: int = 0) -> dict[str, Any]:
    """Accuracies with 95 % intervals over patients, AUC, counts, and how it was measured; None where there is no value.

    Args:
        scores: of a validation.
        seed: seed of the bootstrap.
    """
    return {
        "pair_accuracy": _shown(scores.interval(*PAIR_KINDS, seed=seed), scores),
        **{f"{kind}_accuracy": _shown(scores.interval(kind, seed=seed), scores) for kind in PAIR_KINDS},
        "auc": finite_or_none(scores.auc),
        "kidneys": dict(zip(SIDES.values(), scores.kidneys.sum(0).tolist(), strict=True)),
        "pairs": dict(zip(PAIR_KINDS, scores.n_pairs.tolist(), strict=True)),
        "patients": len(scores.patients),
        "protocol": {
            "threshold": scores.threshold,
            "different_patients": scores.different_patients,
            "pair_accuracy": _ACCURACY,
            "interval": PAIR_INTERVAL,
            "patients": "share their pairs, so an interval that takes their accuracies as independent is too narrow",
        },
    }


def _shown(interval: Interval, scores: PairScores) -> dict[str, float | int | None]:
    ends = {name: finite_or_none(getattr(interval, name)) for name in ("mean", "low", "high")}
    counts = {"n": interval.n, "n_patients": interval.groups, "n_undefined": len(scores.patients) - interval.n}
    return {**ends, **counts}


def _rows(scores: PairScores) -> list[dict[str, Any]]:
    rows = []
    for index, patient in enumerate(scores.patients):
        dataset, _, name = patient.partition("/")
        row: dict[str, Any] = {"dataset": dataset, "case": name, "group": name, "organ": "kidney"}
        for kind, pairs, accuracies in zip(PAIR_KINDS, scores.pairs, scores.by_patient, strict=True):
            row |= {f"{kind}_pairs": int(pairs[index].sum()), f"{kind}_accuracy": float(accuracies[index])}
        row["pair_accuracy"] = float(scores.by_patient[:, index].mean())
        rows.append({**row, "kidneys": int(scores.kidneys[index].sum())})
    return rows
