"""The score of the ISBI 2015 longitudinal MS lesion challenge, which weighs voxels, lesions and volumes."""

from collections.abc import Sequence

from mtmed.metrics.lesions import LesionScore, volume_correlation
from mtmed.metrics.tables import mean_of_defined

__all__ = ["ISBI_SCORE", "cohort_isbi_score", "cohort_volume_correlation", "isbi_score"]

ISBI_SCORE = (
    "DSC/8 + PPV/8 + (1 - LFPR)/4 + LTPR/4 + VC/4 per rater, after Carass et al. 2017: means over cases of Dice, "
    "positive predictive value and the lesion-wise rates, correlation of the volumes over cases; not scaled as on the "
    "challenge's board, which takes lesions as 18-connected"
)
"""How the score is made, for the protocol of a report."""


def isbi_score(
    *,
    dice: float,
    positive_predictive_value: float,
    lesion_wise_true_positive_rate: float,
    lesion_wise_false_positive_rate: float,
    volume_correlation: float,
) -> float:
    r"""Weigh the five terms of one rater.

    .. math:: \frac{DSC}{8} + \frac{PPV}{8} + \frac{1 - LFPR}{4} + \frac{LTPR}{4} + \frac{VC}{4}

    Carass et al. 2017, "Longitudinal multiple sclerosis lesion segmentation: resource and challenge", NeuroImage 148.
    Terms and weights agree with public code written for the challenge. Its board shows another number, said to be
    scaled so that a rater compared with the other gets about 90; that is not confirmed and not done here: 1 is perfect.

    Args:
        dice: mean over cases.
        positive_predictive_value: mean over cases.
        lesion_wise_true_positive_rate: mean over cases.
        lesion_wise_false_positive_rate: mean over cases.
        volume_correlation: over cases, see `mtmed.metrics.volume_correlation`.

    Returns:
        -0.25 to 1; NaN if one of the terms is.
    """
    voxels = dice / 8 + positive_predictive_value / 8
    lesions = (1 - lesion_wise_false_positive_rate) / 4 + lesion_wise_true_positive_rate / 4
    return voxels + lesions + volume_correlation / 4


def cohort_isbi_score(scores: Sequence[LesionScore]) -> float:
    """Score of a cohort against one rater: means over cases, and the correlation of the volumes over cases.

    Undefined values are left out of the means; what the challenge does with them is not confirmed. To compare with the
    challenge's terms, count lesions with 18 neighbours, as public code quotes its paper.

    Args:
        scores: one per case, all against the same rater.

    Returns:
        See `isbi_score`.
    """
    return isbi_score(
        dice=mean_of_defined([one.dice for one in scores]),
        positive_predictive_value=mean_of_defined([one.positive_predictive_value for one in scores]),
        lesion_wise_true_positive_rate=mean_of_defined([one.lesion_wise_true_positive_rate for one in scores]),
        lesion_wise_false_positive_rate=mean_of_defined([one.lesion_wise_false_positive_rate for one in scores]),
        volume_correlation=cohort_volume_correlation(scores),
    )


def cohort_volume_correlation(scores: Sequence[LesionScore]) -> float:
    """Correlation of predicted and reference volumes over the cases of one rater, see `volume_correlation`."""
    return volume_correlation([one.prediction_ml for one in scores], [one.reference_ml for one in scores])
