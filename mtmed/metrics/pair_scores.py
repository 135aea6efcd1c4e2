"""How well the distances of embeddings tell pairs of the same side from pairs of opposite sides, by patient."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from mtmed.data.region import SIDES
from mtmed.errors import InputError
from mtmed.metrics.interval import Interval, resampled_interval

__all__ = ["PAIR_INTERVAL", "PAIR_KINDS", "PairScores", "score_pairs"]

PAIR_KINDS = ("same", "opposite")
"""Kinds of pairs, in the order of the arrays of `PairScores`."""

PAIR_INTERVAL = (
    "95 % expanded percentile bootstrap over patients, 9999 resamples; the pairs of a resample are those between the "
    "patients drawn, so that the two patients of a pair both count as drawn"
)
"""How the intervals of `PairScores.interval` are made, for the protocol of a report."""

_FEWEST_PATIENTS_FOR_AN_INTERVAL = 3  # two make one pair of patients, which is the same in every resample


@dataclass(frozen=True)
class PairScores:
    """Pairs of kidneys and their verdicts, counted by the patients that they are of.

    Attributes:
        patients: the P patients.
        kidneys: number of left and of right kidneys of each, P 2.
        pairs: number of pairs of each kind between any two patients, 2 P P, symmetric; pairs within a patient stand on
            the diagonal.
        correct: number of those with the right verdict, 2 P P.
        auc: probability that a pair of the same side is closer than one of opposite sides, ties counted half; NaN
            without pairs of either kind.
        threshold: distance below which the verdict is "same side".
        different_patients: whether pairs within a patient are left out.
    """

    patients: tuple[str, ...]
    kidneys: NDArray[np.int64]
    pairs: NDArray[np.int64]
    correct: NDArray[np.int64]
    auc: float
    threshold: float
    different_patients: bool

    @property
    def by_patient(self) -> NDArray[np.float64]:
        """Share of right verdicts among the pairs that each patient is part of, 2 P; NaN where there is no pair."""
        return _shares(self.correct, self.pairs, np.ones((1, len(self.patients))))[:, 0]

    @property
    def n_pairs(self) -> NDArray[np.int64]:
        """Number of pairs of each kind, 2."""
        return np.asarray([np.triu(own).sum() for own in self.pairs])

    def accuracy(self, *kinds: str) -> float:
        """Mean over patients of a patient's accuracy, which is the mean over kinds of pairs, NaN if no patient has all.

        Args:
            kinds: ``"same"``, ``"opposite"`` or both.
        """
        values = self.by_patient[[PAIR_KINDS.index(kind) for kind in kinds]].mean(0)
        defined = values[np.isfinite(values)]
        return float(defined.mean()) if defined.size else math.nan

    def interval(self, *kinds: str, resamples: int = 9999, seed: int = 0) -> Interval:
        """The `accuracy` with its 95 % interval over patients.

        Args:
            kinds: ``"same"``, ``"opposite"`` or both.
            resamples: number of bootstrap samples.
            seed: seed of the bootstrap.

        Returns:
            ``n`` and ``groups`` are the number of patients with a value; without an interval for fewer than three.
        """
        chosen = [PAIR_KINDS.index(kind) for kind in kinds]

        def mean(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
            values = _shares(self.correct[chosen], self.pairs[chosen], drawn).mean(0)
            defined = np.isfinite(values)
            with np.errstate(invalid="ignore"):
                return np.asarray(np.where(defined, values * drawn, 0).sum(1) / (defined * drawn).sum(1))

        n = int(np.isfinite(self.by_patient[chosen].mean(0)).sum())
        value = self.accuracy(*kinds)
        if n < _FEWEST_PATIENTS_FOR_AN_INTERVAL:
            return Interval(value, math.nan, math.nan, n, n)
        return Interval(value, *resampled_interval(mean, len(self.patients), resamples=resamples, seed=seed), n, n)


def score_pairs(
    embeddings: Sequence[NDArray[Any]],
    sides: Sequence[int],
    patients: Sequence[str],
    *,
    threshold: float = 0.75,
    different_patients: bool = True,
) -> PairScores:
    """Compare all kidneys with each other; a pair is taken for one of the same side if it is closer than the threshold.

    Args:
        embeddings: one vector per kidney, all of one length F; their Euclidean distances are computed in float64.
        sides: 1 for left, 2 for right kidneys.
        patients: patient of each kidney.
        threshold: distance below which the verdict is "same side".
        different_patients: whether to leave out pairs within a patient.

    Raises:
        InputError: if there are fewer than two patients, embeddings differ in length or one is not finite.
        ValueError: if lengths differ or a side is not 1 or 2.
    """
    if not len(embeddings) == len(sides) == len(patients) or set(sides) - set(SIDES):
        found = f"{len(embeddings)} embeddings, {len(sides)} sides ({sorted(set(sides))}), {len(patients)} patients"
        raise ValueError(f"There are {found}; give each kidney one of each, and side 1 or 2.")
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if len(names) < 2:
        problem = f"has {len(sides)} kidneys of {len(names)} patients, and pairs need two patients"
        raise InputError("validation", problem, "choose another fold or fewer folds")
    lengths = sorted({vector.size for vector in embeddings})
    if len(lengths) > 1:
        problem = f"has {lengths[0]} values for one kidney and {lengths[-1]} for another"
        raise InputError("embedding", problem, 'cut all kidneys to one size, or choose "pooled"')
    vectors = np.stack([np.ravel(vector) for vector in embeddings]).astype(np.float64)
    if not np.isfinite(vectors).all():
        lost = names[owner[~np.isfinite(vectors).all(1)][0]]
        raise InputError(lost, "the embedding of a kidney is not finite", "lower the learning rate or train in float32")

    apart: NDArray[np.float64] = squareform(pdist(vectors))
    same = np.equal.outer(sides, sides)
    compared = np.not_equal.outer(owner, owner) if different_patients else ~np.eye(len(owner), dtype=bool)
    kinds = np.stack([same & compared, ~same & compared])
    right = kinds & np.stack([apart < threshold, apart >= threshold])
    member = np.equal.outer(owner, np.arange(len(names))).astype(np.int64)
    upper = np.triu(np.ones_like(same), 1)
    return PairScores(
        patients=tuple(map(str, names)),
        kidneys=np.stack([member[np.equal(sides, side)].sum(0) for side in SIDES], axis=1),
        pairs=np.stack([_between_patients(kind, member) for kind in kinds]),
        correct=np.stack([_between_patients(kind, member) for kind in right]),
        auc=_closer(*(apart[kind & upper] for kind in kinds)),
        threshold=threshold,
        different_patients=different_patients,
    )


def _between_patients(chosen: NDArray[np.bool_], member: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of chosen pairs between patients, P P, from a symmetric table of kidneys, N N, and their owners, N P."""
    counts = member.T @ chosen.astype(np.int64) @ member
    np.fill_diagonal(counts, np.diagonal(counts) // 2)  # a pair within a patient stands in the table twice
    return counts


def _shares(correct: NDArray[np.int64], pairs: NDArray[np.int64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of right verdicts of each patient, kinds R P, in resamples in which patients are drawn so often, R P.

    Pairs with others count as often as these are drawn; those within a patient once for each time it is drawn itself,
    as that does not relate it to another.
    """
    hits, all_pairs = (
        np.stack([drawn @ (own - np.diag(np.diagonal(own))) + np.diagonal(own) for own in counts.astype(np.float64)])
        for counts in (correct, pairs)
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(hits / all_pairs)


def _closer(same: NDArray[np.float64], opposite: NDArray[np.float64]) -> float:
    """Probability that a distance of the first is the smaller one, by the sum of ranks."""
    if not same.size or not opposite.size:
        return math.nan
    ranks = rankdata(np.concatenate([same, opposite]))
    above = float(ranks[: same.size].sum()) - same.size * (same.size + 1) / 2
    return 1 - above / (same.size * opposite.size)
