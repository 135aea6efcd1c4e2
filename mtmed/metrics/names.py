"""How the columns of ``scores.csv`` are called in tables."""

__all__ = [
    "LESION_METRICS",
    "LOWER_IS_BETTER",
    "METRIC_BOUNDS",
    "METRIC_NAMES",
    "NEITHER_IS_BETTER",
    "ORGAN_METRICS",
    "ORGAN_TABLE",
    "PAIR_METRICS",
    "SLICE_METRICS",
]

ORGAN_METRICS: dict[str, str] = {
    "dice": "Dice",
    "hd95": "HD95 (mm)",
    "surface_dice": "surface Dice",
    "boundary_difference": "boundary difference",
}
"""Fields of `mtmed.metrics.OrganScore` that can be averaged."""

ORGAN_TABLE = ("dice", "hd95", "surface_dice")
"""Those that are, in the order of the table, unless others are asked for."""

LESION_METRICS: dict[str, str] = {
    "dice": "Dice",
    "lesion_wise_f1": "lesion-wise F1",
    "lesion_wise_true_positive_rate": "lesion-wise true positive rate",
    "lesion_wise_false_positive_rate": "lesion-wise false positive rate",
    "voxel_true_positive_rate": "voxel true positive rate",
    "positive_predictive_value": "positive predictive value",
    "false_positive_ml": "false positive volume (ml)",
    "hd95": "HD95 (mm)",
    "volume_difference": "relative volume difference",
}
"""Fields of `mtmed.metrics.LesionScore` that stand in the table, in its order; the counts are in the files."""

PAIR_METRICS: dict[str, str] = {
    "pair_accuracy": "accuracy on pairs",
    "same_accuracy": "accuracy on same-side pairs",
    "opposite_accuracy": "accuracy on opposite-side pairs",
}
"""Columns that `mtmed.metrics.PairReport` writes."""

SLICE_METRICS: dict[str, str] = {
    "slice_dice": "slice Dice",
    "positive_slice_dice": "Dice of positive slices",
    "slice_dice_empty_one": "slice Dice, both empty 1",
    "dice": "Dice",
    "hausdorff": "normalised Hausdorff distance",
    "competition_dice": "competition Dice",
    "competition_score": "competition score",
    "false_positive_to_false_negative": "false positives to false negatives",
    "false_positive_share": "share of false positives in errors",
}
"""Fields of `mtmed.metrics.SliceScore` that stand in the table, in its order; the counts are in the files."""

METRIC_NAMES: dict[str, str] = ORGAN_METRICS | LESION_METRICS | PAIR_METRICS | SLICE_METRICS
"""All of them."""

_FROM_0_TO_1 = (
    "dice",
    "surface_dice",
    "lesion_wise_f1",
    "lesion_wise_true_positive_rate",
    "lesion_wise_false_positive_rate",
    "voxel_true_positive_rate",
    "positive_predictive_value",
    *PAIR_METRICS,
    "slice_dice",
    "positive_slice_dice",
    "slice_dice_empty_one",
    "hausdorff",
    "competition_dice",
    "competition_score",
    "false_positive_share",
)

METRIC_BOUNDS: dict[str, tuple[float, float]] = dict.fromkeys(_FROM_0_TO_1, (0.0, 1.0))
"""Range of the metrics that have one, for `mtmed.metrics.mean_interval`; distances, volumes and ratios have none."""

LOWER_IS_BETTER = frozenset(
    {
        "hd95",
        "boundary_difference",
        "lesion_wise_false_positive_rate",
        "false_positive_ml",
        "volume_difference",
        "hausdorff",
    }
)
"""Errors; of all other metrics more is better, but for those in `NEITHER_IS_BETTER`."""

NEITHER_IS_BETTER = frozenset({"false_positive_to_false_negative", "false_positive_share"})
"""Balances, of which neither more nor less is better."""
