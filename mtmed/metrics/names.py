"""How the columns of ``scores.csv`` are called in tables."""

__all__ = ["LESION_METRICS", "LOWER_IS_BETTER", "METRIC_NAMES", "ORGAN_METRICS"]

ORGAN_METRICS: dict[str, str] = {"dice": "Dice", "hd95": "HD95 (mm)", "surface_dice": "surface Dice"}
"""Fields of `mtmed.metrics.OrganScore` that are averaged, in the order of the table."""

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

METRIC_NAMES: dict[str, str] = ORGAN_METRICS | LESION_METRICS
"""All of them."""

LOWER_IS_BETTER = frozenset({"hd95", "lesion_wise_false_positive_rate", "false_positive_ml", "volume_difference"})
"""Errors; of all other metrics more is better."""
