"""Scores of whole volumes, their uncertainty, reports and pictures."""

from mtmed.metrics.boundary import boundary_difference
from mtmed.metrics.case_report import CaseReport
from mtmed.metrics.evaluation import EvaluationReport, evaluation_cases
from mtmed.metrics.interval import Interval, mean_interval, resampled_interval
from mtmed.metrics.isbi2015 import cohort_isbi_score, isbi_score
from mtmed.metrics.lesion_report import LesionReport, RaterScore, lesion_table, summarise_lesions, write_lesion_report
from mtmed.metrics.lesions import LESION_RULES, LesionScore, score_lesions, volume_correlation
from mtmed.metrics.mean_dice import MeanDice
from mtmed.metrics.overlay import overlay_figure, save_overlay
from mtmed.metrics.pair_accuracy import PairAccuracy
from mtmed.metrics.pair_report import PairReport, summarise_pairs
from mtmed.metrics.pair_scores import PairScores, score_pairs
from mtmed.metrics.report import summarise, summary_table, write_report
from mtmed.metrics.scores import EMPTY_RULES, EmptyPolicy, OrganScore, score_case, score_masks

__all__ = [
    "EMPTY_RULES",
    "LESION_RULES",
    "CaseReport",
    "EmptyPolicy",
    "EvaluationReport",
    "Interval",
    "LesionReport",
    "LesionScore",
    "MeanDice",
    "OrganScore",
    "PairAccuracy",
    "PairReport",
    "PairScores",
    "RaterScore",
    "boundary_difference",
    "cohort_isbi_score",
    "evaluation_cases",
    "isbi_score",
    "lesion_table",
    "mean_interval",
    "overlay_figure",
    "resampled_interval",
    "save_overlay",
    "score_case",
    "score_lesions",
    "score_masks",
    "score_pairs",
    "summarise",
    "summarise_lesions",
    "summarise_pairs",
    "summary_table",
    "volume_correlation",
    "write_lesion_report",
    "write_report",
]
