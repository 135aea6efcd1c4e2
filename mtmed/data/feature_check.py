"""Whether the cases have the numbers that a network is to be told beside the image."""

from collections.abc import Sequence

from mtmed.data.case import Case
from mtmed.errors import InputError
from mtmed.transforms.slice_features import FEATURES, is_finite_number

__all__ = ["metadata_numbers", "missing_features"]


def missing_features(cases: Sequence[Case], features: Sequence[str]) -> list[str]:
    """One line for each feature that cases lack, naming the first of them.

    Args:
        cases: the cases to train on.
        features: names; those of `mtmed.transforms.slice_features.FEATURES` follow from the image, all others are
            numbers of ``metadata``.
    """
    problems = []
    for name in features:
        lacking = [] if name in FEATURES else [case for case in cases if name not in metadata_numbers(case)]
        if not lacking:
            continue
        if len(lacking) == len(cases):
            numbers = {key for case in cases for key in metadata_numbers(case)}
            culprit, problem = f"feature {name}", "is a number in the metadata of no case"
            remedy = f"use {', '.join([*FEATURES, *sorted(numbers)])}, or add it to the manifest"
        else:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            culprit, problem = f"{lacking[0].key}{more}", f"has no number '{name}' in its metadata"
            remedy = f"add it to 'metadata' in the manifest, or take '{name}' out of the features"
        problems.append(str(InputError(culprit, problem, remedy)))
    return problems


def metadata_numbers(case: Case) -> dict[str, float]:
    """What of a case's metadata can be a feature: finite numbers."""
    return {name: value for name, value in case.metadata.items() if is_finite_number(value)}
