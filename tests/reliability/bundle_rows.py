"""Commands of the bundles on tiny cohorts in the folder of a row."""

from typing import Any

from catalogue import bundle
from gi_tract_runs import tiny_options as tiny_gi_tract
from ms_lesion_runs import TINY_MS
from siamese_kidney_runs import tiny_options as tiny_siamese
from two_stage_runs import tiny_two_stage

__all__ = ["gi_tract", "ms_lesion", "siamese_kidney", "two_stage"]

_DATA = {"data": "{}/cohort", "store": "{}/store"}


def _without_none(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def gi_tract(stage: str = "train", **more: Any) -> tuple[str, ...]:
    """Words of a command of the GI tract bundle; None leaves an option out."""
    short = {"epochs": 1, "iterations_per_epoch": 1} if stage == "train" else {}
    return bundle("gi_tract", stage, _without_none(tiny_gi_tract(stage, _DATA, **{**short, **more})))


def two_stage(stage: str = "stage1", **more: Any) -> tuple[str, ...]:
    """Words of a command of the two-stage bundle; None leaves an option out."""
    short = {"epochs": 1, "iterations_per_epoch": 1} if stage in ("stage1", "distill") else {}
    return bundle("two_stage", stage, _without_none(tiny_two_stage(stage, _DATA, **{**short, **more})))


def siamese_kidney(stage: str = "pretrain", **more: Any) -> tuple[str, ...]:
    """Words of a command of the kidney bundle; None leaves an option out."""
    options = {"device": "cpu", "dataset_dir": "{}/cohort"}
    if stage in ("pretrain", "train"):
        options = tiny_siamese(stage, _DATA, **{"epochs": 1, "iterations_per_epoch": 1, **more})
    return bundle("siamese_kidney", stage, _without_none({**options, **more}))


def ms_lesion(stage: str = "train", **more: Any) -> tuple[str, ...]:
    """Words of a command of the MS lesion bundle; None leaves an option out."""
    options: dict[str, Any] = {"device": "cpu", "dataset_dir": "{}/cohort"}
    if stage == "train":
        options |= {**TINY_MS, "epochs": 1, "iterations_per_epoch": 1, "folds": 3}
        options |= {f"{name}_dir": f"{{}}/{name}" for name in ("store", "tissue", "rough")}
    return bundle("ms_lesion", stage, _without_none({**options, **more}))
