"""The check of what is to be predicted as an item of a bundle's ``run``."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmed.data import Case, Cohort, Manifest, check_cases
from mtmed.distributed import rank
from mtmed.transforms.reading import OtherGrids

__all__ = ["check_inputs"]

logger = logging.getLogger(__name__)

_NO_MAPS = ("image", "output_name", "metadata")


def check_inputs(
    rows: Sequence[Mapping[str, Any]],
    *,
    modalities: Sequence[str],
    other_grids: OtherGrids = "refuse",
    require_orientation: bool = False,
) -> None:
    """Read all images before the first one is predicted, so that a bad one ends the run with nothing half-done.

    Args:
        rows: cases, see `mtmed.inferers.inference_cases`.
        modalities: names of the image channels of the network.
        other_grids: ``"resample"`` if the run's `mtmed.transforms.LoadVolumed` resamples files on other grids.
        require_orientation: refuse files that do not declare how their axes lie in the patient.

    Raises:
        InputError: with one line per problem.
    """
    if rank() != 0:
        return
    cases = tuple(
        Case(
            id=row["output_name"],
            image=tuple(row["image"]),
            label=None,
            group=row["output_name"],
            dataset="input",
            maps={name: path for name, path in row.items() if name not in _NO_MAPS},
        )
        for row in rows
    )
    given = Manifest("input", Path("/"), tuple(modalities), {}, (), cases, "", "", has_groups=False)
    report = check_cases(
        Cohort((given,)),
        other_grids=other_grids,
        require_orientation=require_orientation,
        include_test=True,
        allow_duplicates=True,
    )
    for notice in report.notices:
        logger.info("Notice: %s", notice)
    report.raise_if_errors()
