"""The composite score of the ISBI 2015 challenge."""

import math

import numpy as np
import pytest
from scipy import ndimage, stats

from mtmed.metrics import cohort_isbi_score, isbi_score, score_lesions

SPACING = (1.0, 1.0, 1.0)


def _scores(cases=6):
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(cases):
        blobs = [ndimage.gaussian_filter(rng.normal(size=(18, 18, 12)), 1) for _ in range(2)]
        share = rng.uniform(0.02, 0.2)
        mixed = blobs[0] + 0.6 * blobs[1]
        reference = blobs[0] > np.quantile(blobs[0], 1 - share)
        scores.append(score_lesions(mixed > np.quantile(mixed, 1 - 0.8 * share), reference, SPACING))
    return scores


def test_weights_are_those_of_the_challenge():
    terms = {
        "dice": 0.0,
        "positive_predictive_value": 0.0,
        "lesion_wise_true_positive_rate": 0.0,
        "lesion_wise_false_positive_rate": 1.0,
        "volume_correlation": 0.0,
    }
    assert isbi_score(**terms) == 0
    gains = {name: isbi_score(**{**terms, name: 1.0 - value}) for name, value in terms.items()}
    assert list(gains.values()) == [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 4]


def test_perfect_predictions_score_one():
    rng = np.random.default_rng(1)
    masks = [rng.random((9, 9, 9)) < share for share in (0.02, 0.1, 0.05)]
    assert cohort_isbi_score([score_lesions(mask, mask, SPACING) for mask in masks]) == pytest.approx(1)


def test_cohort_score_is_that_of_lesion_metrics_plus_a_quarter_of_the_volume_correlation():
    peer = pytest.importorskip("lesion_metrics.metrics")
    scores = _scores()
    without_volumes = [
        peer.isbi15_score_from_metrics(
            one.dice,
            one.positive_predictive_value,
            one.lesion_wise_false_positive_rate,
            one.lesion_wise_true_positive_rate,
            reweighted=False,
        )
        for one in scores
    ]
    volumes = stats.pearsonr([one.prediction_ml for one in scores], [one.reference_ml for one in scores]).statistic
    assert cohort_isbi_score(scores) == pytest.approx(np.mean(without_volumes) + volumes / 4, abs=1e-12)
    assert 0 < cohort_isbi_score(scores) < 1


def test_cases_without_a_term_are_left_out_of_its_mean():
    empty = np.zeros((9, 9, 9), bool)
    lesion = empty.copy()
    lesion[4, 4, 4] = True
    scores = [score_lesions(lesion, lesion, SPACING), score_lesions(empty, lesion, SPACING)]
    scores.append(score_lesions(empty, empty, SPACING))
    # Dice and LTPR of the missed lesion are 0; PPV and LFPR have one case, and the empty case counts for volumes only
    volumes = stats.pearsonr([1, 0, 0], [1, 1, 0]).statistic
    assert cohort_isbi_score(scores) == pytest.approx(0.5 / 8 + 1 / 8 + 1 / 4 + 0.5 / 4 + volumes / 4)


def test_a_single_case_has_no_score_as_volumes_cannot_be_correlated():
    assert math.isnan(cohort_isbi_score(_scores(1)))
