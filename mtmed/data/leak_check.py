"""Does a list of cases divide a patient between training and validation?"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from mtmed.data.case import Case
from mtmed.data.recorded_split import PARTS
from mtmed.data.splits import check_split_disjoint
from mtmed.errors import InputError

__all__ = ["leaked_patients", "patients_of_both"]


def leaked_patients(cases: Sequence[Case]) -> Iterator[str]:
    """Errors for folds and parts that a list gives and that divide a patient.

    Folds may divide the days of a patient, as with the split key ``patient_day``. Parts share nothing of the key that
    their manifest names.

    Args:
        cases: labelled cases of any data sets.
    """
    first: dict[tuple[str, str, str | None], Case] = {}
    for case in cases:
        if case.fold is None:
            continue
        other = first.setdefault((case.dataset, case.group, case.visit), case)
        if other.fold != case.fold:
            problem = f"patient '{case.group}' is in the folds {other.fold} and {case.fold}"
            yield str(InputError(case.key, problem, "give all cases of a patient the same 'fold'"))
    for one, two in combinations(PARTS, 2):
        for key in {case.part_key for case in cases if case.part is not None}:
            of_key = [case for case in cases if case.part_key == key]
            first_part, second_part = ([case for case in of_key if case.part == name] for name in (one, two))
            try:
                check_split_disjoint(first_part, second_part, key or "patient", names=(one, two))
            except InputError as error:
                yield str(error)


def patients_of_both(cases: Sequence[Case], test_cases: Sequence[Case]) -> list[Case]:
    """Test cases of patients who have labelled cases too.

    Args:
        cases: labelled cases.
        test_cases: the others.
    """
    labelled = {(case.dataset, case.group) for case in cases}
    return [case for case in test_cases if (case.dataset, case.group) in labelled]
