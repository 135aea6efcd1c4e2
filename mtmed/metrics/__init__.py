"""Scores of whole volumes, their uncertainty, reports and pictures."""

from mtmed.metrics.boundary import boundary_difference
from mtmed.metrics.case_report import CaseReport
from mtmed.metrics.evaluation import EvaluationReport, evaluation_cases
from mtmed.metrics.image_auc import ImageAuc, image_auc
from mtmed.metrics.interval import Interval, mean_interval, resampled_interval
from mtmed.metrics.isbi2015 import cohort_isbi_score, isbi_score
from mtmed.metrics.lesion_report import LesionReport, RaterScore, lesion_table, summarise_lesions, write_lesion_report
from mtmed.metrics.lesions import LESION_RULES, LesionScore, score_lesions, volume_correlation
from mtmed.metrics.mean_dice import MeanDice
from mtmed.metrics.mean_scan_dice import MeanScanDice
from mtmed.metrics.mean_slice_dice import MeanSliceDice
from mtmed.metrics.overlay import overlay_figure, save_overlay
from mtmed.metrics.pair_accuracy import PairAccuracy
from mtmed.metrics.pair_report import PairReport, summarise_pairs
from mtmed.metrics.pair_scores import PairScores, score_pairs
from mtmed.metrics.report import summarise, summary_table, write_report
from mtmed.metrics.scores import EMPTY_RULES, EmptyPolicy, OrganScore, score_case, score_masks
from mtmed.metrics.slice_dice import slice_dice
from mtmed.metrics.slice_report import SliceReport, write_slice_report
from mtmed.metrics.slice_scores import SLICE_RULES, OrganSlice, SliceScore, score_slices
from mtmed.metrics.slice_summary import slice_table, summarise_slices
from mtmed.metrics.uw_madison import competition_dice, competition_score, normalised_hausdorff

__all__ = [
    "EMPTY_RULES",
    "LESION_RULES",
    "SLICE_RULES",
    "CaseReport",
    "EmptyPolicy",
    "EvaluationReport",
    "ImageAuc",
    "Interval",
    "LesionReport",
    "LesionScore",
    "MeanDice",
    "MeanScanDice",
    "MeanSliceDice",
    "OrganScore",
    "OrganSlice",
    "PairAccuracy",
    "PairReport",
    "PairScores",
    "RaterScore",
    "SliceReport",
    "SliceScore",
    "boundary_difference",
    "cohort_isbi_score",
    "competition_dice",
    "competition_score",
    "evaluation_cases",
    "image_auc",
    "isbi_score",
    "lesion_table",
    "mean_interval",
    "normalised_hausdorff",
    "overlay_figure",
    "resampled_interval",
    "save_overlay",
    "score_case",
    "score_lesions",
    "score_masks",
    "score_pairs",
    "score_slices",
    "slice_dice",
    "slice_table",
    "summarise",
    "summarise_lesions",
    "summarise_pairs",
    "summarise_slices",
    "summary_table",
    "volume_correlation",
    "write_lesion_report",
    "write_report",
    "write_slice_report",
]
