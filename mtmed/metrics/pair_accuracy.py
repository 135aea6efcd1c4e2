"""Validation accuracy of same-side and opposite-side pairs, over all kidneys of a validation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from numpy.typing import NDArray

from mtmed.errors import InputError
from mtmed.metrics.pair_scores import PAIR_KINDS, PairScores, score_pairs

__all__ = ["PairAccuracy"]


class PairAccuracy(Metric):
    r"""Balanced accuracy of the verdict "same side" over all pairs of kidneys; MONAI's ``key_val_metric``.

    Two kidneys are taken for the same side if the distance of their embeddings is below the threshold. A patient's
    accuracy :math:`a_{pk}` is the share of right verdicts among the pairs of kind k (same side, opposite sides) that
    one of its kidneys is part of; with the patients P who have pairs of both kinds

    .. math:: \frac{1}{|P|} \sum_{p \in P} \frac{a_{p,\text{same}} + a_{p,\text{opposite}}}{2}.

    Guessing scores 0.5. NaN if no patient has pairs of both kinds, for example if all kidneys are left ones.

    The evaluator's output has embeddings B F under ``pred``; its batches have the sides B (1 left, 2 right) under
    ``label`` and the patients under ``group``. Embeddings are kept on the CPU until the end of the validation and
    compared in float64. While validating, every process scores all volumes, so nothing is gathered.

    ``engine.state.metrics`` gets the accuracy under the metric's name, and ``same_accuracy``, ``opposite_accuracy``
    (means over the patients with such pairs, NaN without), ``pair_auc`` (does not depend on the threshold; NaN without
    pairs of either kind), ``kidneys``, ``pairs`` and ``patients``. ``engine.state.metric_details`` gets the
    `PairScores`.

    Args:
        threshold: distance below which a pair is taken for one of the same side; 0.75 in the code of Dhere and
            Sivaswamy 2021 (arXiv 2101.05456).
        different_patients: whether to compare kidneys of different patients only.

    Raises:
        InputError: if the threshold is not positive and finite; at the end of a validation, if it has kidneys of fewer
            than two patients, or embeddings of different lengths or that are not finite.
    """

    def __init__(self, *, threshold: float = 0.75, different_patients: bool = True) -> None:
        if not 0 < threshold < float("inf"):
            raise InputError("threshold", f"is {threshold}", "give a positive distance, 0.75 in the author's code")
        self.threshold = threshold
        self.different_patients = different_patients
        super().__init__()

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def reset(self) -> None:
        """Forget all kidneys."""
        self._embeddings: list[NDArray[Any]] = []
        self._sides: list[int] = []
        self._patients: list[str] = []

    @reinit__is_reduced  # type: ignore[untyped-decorator]
    def update(self, output: tuple[Sequence[Any], Sequence[Any], Sequence[str]]) -> None:
        """Add the kidneys of one batch: embeddings, sides, patients."""
        for embedding, side, patient in zip(*output, strict=True):
            self._embeddings.append(np.asarray(embedding.detach().cpu().double()))
            self._sides.append(int(side))
            self._patients.append(patient)

    @torch.no_grad()
    def iteration_completed(self, engine: Engine) -> None:
        """Read embeddings from the output and the rest from the batch, whether they are decollated or not."""
        output, batch = engine.state.output, engine.state.batch
        self.update((_column(output, "pred"), _column(batch, "label"), _column(batch, "group")))

    def scores(self) -> PairScores:
        """All verdicts so far."""
        return score_pairs(
            self._embeddings,
            self._sides,
            self._patients,
            threshold=self.threshold,
            different_patients=self.different_patients,
        )

    def compute(self) -> float:
        """The balanced accuracy."""
        return self.scores().accuracy(*PAIR_KINDS)

    def completed(self, engine: Engine, name: str) -> None:
        """Put accuracies, AUC and counts into the engine's metrics, and all verdicts into its details."""
        scores = self.scores()
        engine.state.metrics |= {
            name: scores.accuracy(*PAIR_KINDS),
            **{f"{kind}_accuracy": scores.accuracy(kind) for kind in PAIR_KINDS},
            "pair_auc": scores.auc,
            "kidneys": int(scores.kidneys.sum()),
            "pairs": int(scores.n_pairs.sum()),
            "patients": len(scores.patients),
        }
        if not hasattr(engine.state, "metric_details"):  # MONAI's engines have it
            engine.state.metric_details = {}
        engine.state.metric_details[name] = scores


def _column(rows: Any, key: str) -> Any:
    return [row[key] for row in rows] if isinstance(rows, list) else rows[key]
