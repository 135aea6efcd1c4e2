"""Images without labels that a label-free task may use besides those of its split."""

import os
from collections.abc import Sequence
from dataclasses import replace

from mtmed.data.case import Case
from mtmed.data.manifest import Cohort
from mtmed.data.parts import Parts
from mtmed.data.splits import check_split_disjoint
from mtmed.errors import InputError

__all__ = ["unlabelled_cases", "unlabelled_pool"]


def unlabelled_cases(cohort: Cohort, *, without: Sequence[Case]) -> tuple[Case, ...]:
    """The cases that the data sets list under ``test``, except those of patients that are held out.

    A split deals out labelled cases only, so other examinations of a held-out patient must be left out here, whatever
    the split key. A row that names no patient counts as a patient of its own.

    Args:
        cohort: the data sets.
        without: the held-out cases, for example `Split.validation`.

    Returns:
        The cases in the order of the data sets; a label that such a row has is dropped.

    Raises:
        InputError: an image is not there (one line for all of them), or is the image of a held-out case.
    """
    held_out = {(case.dataset, case.group) for case in without}
    blind = cohort.without_labels().manifests
    cases = tuple(case for one in blind for case in one.test_cases if (case.dataset, case.group) not in held_out)
    absent = [path for case in cases for path in case.images if not os.path.exists(path)]
    if absent:
        culprit = absent[0] + (f" and {len(absent) - 1} more images" if len(absent) > 1 else "")
        problem = "listed under 'test', no such file"
        raise InputError(culprit, problem, "fetch it, take the row out of 'test', or use labelled cases only")
    check_split_disjoint(cases, without)
    return cases


def unlabelled_pool(cohort: Cohort, parts: Parts) -> tuple[Case, ...]:
    """Images beside the labelled training cases: those whose label a fraction leaves out, and those without one.

    Whatever the split key, no case is of a patient that validates or tests.

    Args:
        cohort: the data sets.
        parts: made of the cohort's cases by `mtmed.data.split_parts`, with its ``fraction``.

    Returns:
        The cases without labels: first the labelled ones that are in no part, in the order of the cohort, then those
        of `unlabelled_cases`.

    Raises:
        InputError: as `unlabelled_cases`.
    """
    held_out = (*parts.validation, *parts.test)
    patients = {(case.dataset, case.group) for case in held_out}
    used = {case.key for case in (*parts.training, *held_out)}
    left_out = (
        replace(case, label=None, raters=())
        for case in cohort.cases
        if case.key not in used and (case.dataset, case.group) not in patients
    )
    return (*left_out, *unlabelled_cases(cohort, without=held_out))
