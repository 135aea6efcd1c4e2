"""``mtmed check`` of data sets: one row for each, then everything that is wrong with them."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mtmed.data.check import CheckReport, check_cases
from mtmed.data.manifest import Cohort, load_cohort
from mtmed.text_table import print_table
from mtmed.transforms.reading import OtherGrids

__all__ = ["check_folders", "print_data_sets"]


def check_folders(
    folders: Sequence[str],
    *,
    patch_size: Sequence[int] | None,
    spacing: Sequence[float] | None,
    other_grids: OtherGrids,
    workers: int | None,
) -> tuple[dict[str, Any], int]:
    """Check data sets and print what was found.

    Args:
        folders: of the data sets, or files of manifests.
        patch_size: see `mtmed.data.check_cases`.
        spacing: see `mtmed.data.check_cases`.
        other_grids: see `mtmed.data.check_cases`.
        workers: number of threads; None for one per core, at most 8.

    Returns:
        The report as plain values, and the exit status.

    Raises:
        InputError: if a folder holds no data set.
    """
    cohort = load_cohort(folders)
    report = check_cases(
        cohort,
        patch_size=patch_size,
        spacing=spacing,
        other_grids=other_grids,
        include_test=True,
        workers=workers,
    )
    print_data_sets(cohort, report)
    for notice in report.notices:
        print(f"notice: {notice}")
    for manifest in cohort.manifests:
        if not manifest.has_groups:
            print(f"notice: {manifest.name}: no row has 'patient', so each case counts as its own patient")
    for error in report.errors:
        print(error, file=sys.stderr)
    print(f"{len(report.errors)} errors, {len(report.notices)} notices")
    return asdict(report), 1 if report.errors else 0


def print_data_sets(cohort: Cohort, report: CheckReport) -> None:
    """Print one row per data set: how much there is, its sizes, and in how many cases each label is."""
    rows: list[tuple[str, ...]] = [("data set", "cases", "patients", "voxels", "spacing (mm)", "cases with label")]
    for manifest in cohort.manifests:
        facts = [item for item in report.cases if item.dataset == manifest.name]
        labelled = [item for item in facts if item.voxels]
        shapes = [item.shape for item in facts if item.shape is not None]
        spacings = [item.spacing for item in facts if item.spacing is not None]
        labels = ", ".join(
            f"{name} {sum(value in item.voxels for item in labelled)}"
            for value, name in manifest.label_names.items()
            if value
        )
        cases = f"{len(manifest.cases)}+{len(manifest.test_cases)}" if manifest.test_cases else f"{len(manifest.cases)}"
        patients = str(len({item.group for item in facts}))
        rows.append((manifest.name, cases, patients, _range(shapes), _range(spacings), labels))
    print_table(rows)


def _range(values: Sequence[Sequence[float]]) -> str:
    """Give the range along each axis, for example ``512 x 512 x 29-171``."""
    axes = [(f"{min(axis):.4g}", f"{max(axis):.4g}") for axis in zip(*values, strict=True)]
    return " x ".join(low if low == high else f"{low}-{high}" for low, high in axes)
