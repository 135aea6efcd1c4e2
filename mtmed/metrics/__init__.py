"""Scores of whole volumes, their uncertainty, reports and pictures."""

from mtmed.metrics.evaluation import EvaluationReport, evaluation_cases
from mtmed.metrics.interval import Interval, mean_interval
from mtmed.metrics.mean_dice import MeanDice
from mtmed.metrics.overlay import overlay_figure, save_overlay
from mtmed.metrics.report import summarise, summary_table, write_report
from mtmed.metrics.scores import EMPTY_RULES, EmptyPolicy, OrganScore, score_case, score_masks

__all__ = [
    "EMPTY_RULES",
    "EmptyPolicy",
    "EvaluationReport",
    "Interval",
    "MeanDice",
    "OrganScore",
    "evaluation_cases",
    "mean_interval",
    "overlay_figure",
    "save_overlay",
    "score_case",
    "score_masks",
    "summarise",
    "summary_table",
    "write_report",
]
