"""Pairs of kidneys against a plain double loop, SciPy's rank test, and the coverage of the interval."""

import math

import numpy as np
import pytest
from scipy import stats

from mtmed.errors import InputError
from mtmed.metrics import score_pairs


def _kidneys(seed=0, patients=7, features=3):
    """Embeddings apart by side, one patient without a right kidney, one with two left ones."""
    rng = np.random.default_rng(seed)
    rows = [(side, f"demo/p{number}") for number in range(patients) for side in (1, 2)]
    rows = [*rows[:-1], (1, "demo/p0")]
    sides, owners = [side for side, _ in rows], [owner for _, owner in rows]
    vectors = [0.5 * rng.normal(size=features) + 0.4 * side for side in sides]
    return vectors, sides, owners


def _plain(vectors, sides, owners, threshold, different):
    """Right verdicts and pairs of each patient and kind, and the distances of each kind."""
    counts = {owner: {"same": [0, 0], "opposite": [0, 0]} for owner in owners}
    distances = {"same": [], "opposite": []}
    for first in range(len(sides)):
        for second in range(first):
            if different and owners[first] == owners[second]:
                continue
            distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(vectors[first], vectors[second], strict=True)))
            kind = "same" if sides[first] == sides[second] else "opposite"
            distances[kind].append(distance)
            for owner in {owners[first], owners[second]}:
                counts[owner][kind][0] += (distance < threshold) == (kind == "same")
                counts[owner][kind][1] += 1
    return counts, distances


@pytest.mark.parametrize("different", [True, False], ids=["different patients", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_accuracies_equal_a_plain_double_loop(seed, different):
    kidneys = _kidneys(seed)
    scores = score_pairs(*kidneys, threshold=0.9, different_patients=different)
    counts, distances = _plain(*kidneys, 0.9, different)
    shares = {kind: [counts[one][kind][0] / counts[one][kind][1] for one in scores.patients] for kind in distances}
    assert list(scores.patients) == sorted(counts)
    assert scores.kidneys.tolist() == [[2, 1], *[[1, 1]] * 5, [1, 0]]
    assert scores.n_pairs.tolist() == [len(own) for own in distances.values()]
    for kind, own in zip(distances, scores.by_patient, strict=True):
        assert own.tolist() == pytest.approx(shares[kind], abs=1e-15)
        assert scores.accuracy(kind) == pytest.approx(np.mean(shares[kind]))
    balanced = np.mean([shares["same"], shares["opposite"]])
    assert scores.accuracy("same", "opposite") == pytest.approx(balanced)
    assert 0.5 < balanced < 1
    test = stats.mannwhitneyu(distances["opposite"], distances["same"])
    assert scores.auc == pytest.approx(test.statistic / (len(distances["same"]) * len(distances["opposite"])))


def test_equal_distances_count_half_and_the_threshold_itself_is_opposite():
    vectors = [np.array([float(place)]) for place in (0, 0, 1, 1)]
    scores = score_pairs(vectors, [1, 2, 1, 2], ["a", "a", "b", "b"], threshold=1.0)
    assert scores.auc == 0.5  # all four pairs of different patients are 1 apart
    assert (scores.accuracy("same"), scores.accuracy("opposite")) == (0.0, 1.0)
    assert score_pairs(vectors, [1, 2, 1, 2], ["a", "a", "b", "b"], threshold=1.01).accuracy("same") == 1.0
    whole = score_pairs(vectors, [1, 2, 1, 2], ["a", "a", "b", "b"], different_patients=False)
    assert whole.n_pairs.tolist() == [2, 4]


def test_order_rotation_and_names_of_the_kidneys_change_nothing():
    vectors, sides, owners = _kidneys(3)
    scores = score_pairs(vectors, sides, owners)
    order = np.random.default_rng(0).permutation(len(sides))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    moved = score_pairs([vectors[i] @ turn for i in order], [3 - sides[i] for i in order], [owners[i] for i in order])
    assert moved.auc == scores.auc
    assert np.array_equal(moved.by_patient, scores.by_patient)


def test_a_kind_without_pairs_has_no_accuracy():
    scores = score_pairs([np.zeros(2), np.ones(2), np.ones(2)], [1, 1, 1], ["a", "b", "c"])
    assert scores.accuracy("same") == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert all(map(math.isnan, (scores.accuracy("opposite"), scores.accuracy("same", "opposite"), scores.auc)))
    nothing = scores.interval("opposite")
    assert math.isnan(nothing.mean)
    assert nothing.groups == 0
    # the second patient has the only right kidney, so that its pairs are all of one kind
    scores = score_pairs([np.zeros(1), np.ones(1), np.zeros(1)], [1, 2, 1], ["a", "b", "c"])
    assert np.array_equal(np.isnan(scores.by_patient), [[False, True, False], [False, False, False]])
    assert scores.interval("same", "opposite").groups == 2
    assert scores.accuracy("same", "opposite") == 1.0


def _cohort(rng, patients):
    """One kidney of each side; a patient's two kidneys are as easy to tell as each other, noise is their own."""
    shift = rng.normal(0, 0.5, patients)
    vectors = [np.array([p + side + 0.2 * rng.normal()]) for p in shift for side in (0.0, 1.0)]
    return vectors, [1, 2] * patients, [str(one) for one in range(patients) for _ in range(2)]


def test_interval_covers_the_true_accuracy_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = np.mean([score_pairs(*_cohort(rng, 100)).accuracy("same", "opposite") for _ in range(20)])
    covered = 0
    for repeat in range(200):
        interval = score_pairs(*_cohort(rng, 20)).interval("same", "opposite", resamples=300, seed=repeat)
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 200 <= 0.99


def test_interval_holds_the_mean_and_needs_three_patients():
    kidneys = _kidneys(1, patients=12)
    scores = score_pairs(*kidneys)
    interval = scores.interval("same", "opposite")
    assert interval == scores.interval("same", "opposite")
    assert interval.low < interval.mean == scores.accuracy("same", "opposite") < interval.high
    assert interval.groups == 12
    two = score_pairs(*_cohort(np.random.default_rng(0), 2)).interval("same")
    assert math.isfinite(two.mean)
    assert math.isnan(two.low)


def test_wrong_input_is_refused():
    vectors, sides, owners = _kidneys()
    with pytest.raises(InputError, match=r"has 2 kidneys of 1 patients.*choose another fold"):
        score_pairs(vectors[:2], sides[:2], owners[:2])
    with pytest.raises(InputError, match="0 kidneys of 0 patients"):
        score_pairs([], [], [])
    with pytest.raises(InputError, match="has 2 values for one kidney and 3 for another"):
        score_pairs([vectors[0][:2], *vectors[1:]], sides, owners)
    with pytest.raises(InputError, match=r"demo/p1: the embedding of a kidney is not finite"):
        score_pairs([*vectors[:2], vectors[2] * np.nan, *vectors[3:]], sides, owners)
    with pytest.raises(ValueError, match="side 1 or 2"):
        score_pairs(vectors, [0, *sides[1:]], owners)
    with pytest.raises(ValueError, match="one of each"):
        score_pairs(vectors, sides, owners[1:])
