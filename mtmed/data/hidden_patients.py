"""Visits and slices of one patient in a list of cases that does not say whose they are."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mtmed.data.case import Case
from mtmed.errors import InputError
from mtmed.transforms.slice_name import parse_slice_name

__all__ = ["refuse_hidden_patients"]

_VISIT_OR_SLICE = re.compile(
    r"(?<![a-z0-9])(?:ses|session|visit|day|timepoint|slice)[-_ ]?\d+(?![a-z0-9])", re.IGNORECASE
)


def refuse_hidden_patients(file: Path, cases: Sequence[Case]) -> None:
    """Refuse cases without a patient whose paths differ only by a visit or a slice.

    Each of them would count as a patient, so that a split could train on one visit or slice of a patient and validate
    on another. Visits and slices are known by the words ``ses``, ``session``, ``visit``, ``day``, ``timepoint`` and
    ``slice`` with a number behind, in file or folder, and by names of slices as `mtmed.transforms.slice_name` reads
    them.

    Args:
        file: the manifest, for messages.
        cases: its labelled cases; none says whose it is.

    Raises:
        InputError: naming the first two such cases. Who states the patient in each row, if only by repeating its id,
            is believed.
    """
    seen: dict[str, str] = {}
    for case in cases:
        path = os.path.normpath(case.images[0])
        folder, name = os.path.split(path)
        bare = folder if parse_slice_name(name) else _VISIT_OR_SLICE.sub("", path)
        other = seen.setdefault(bare, case.id)
        if bare != path and other != case.id:
            problem = f"has no 'patient', and '{other}' and '{case.id}' look like visits or slices of one"
            remedy = "give 'patient' in all rows, so that splits keep each in one part (its id if all are different)"
            raise InputError(file, problem, remedy)
