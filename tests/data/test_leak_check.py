"""Folds and parts that divide a patient."""

import pytest

from mtmed.data import Case
from mtmed.data.leak_check import leaked_patients, patients_of_both


def case(number: int, patient: str, **more: object) -> Case:
    return Case(str(number), (f"/{number}.nii.gz",), f"/{number}_label.nii.gz", patient, "Toy", **more)


def test_a_patient_in_two_folds_is_an_error():
    (line,) = leaked_patients([case(0, "a", fold=0), case(1, "b", fold=1), case(2, "a", fold=1)])
    assert line == "Toy/2: patient 'a' is in the folds 0 and 1; give all cases of a patient the same 'fold'"


def test_days_of_a_patient_may_be_in_different_folds():
    assert list(leaked_patients([case(0, "a", fold=0, visit="1"), case(1, "a", fold=1, visit="2")])) == []


@pytest.mark.parametrize(("one", "two"), [("training", "validation"), ("training", "test"), ("validation", "test")])
def test_a_patient_in_two_parts_is_an_error(one, two):
    (line,) = leaked_patients([case(0, "a", part=one), case(1, "a", part=two), case(2, "b", part="training")])
    assert line == f"Toy/1: patient 'a' is in {two} and, as Toy/0, in {one}; give each to one part only"


def test_parts_by_day_may_divide_a_patient_but_no_day():
    parts = {"part_key": "patient_day"}
    first = case(0, "a", part="training", visit="1", **parts)
    assert list(leaked_patients([first, case(1, "a", part="test", visit="2", **parts)])) == []
    assert len(list(leaked_patients([first, case(1, "a", part="test", visit="1", **parts)]))) == 1


def test_test_cases_of_labelled_patients_are_found():
    found = patients_of_both([case(0, "a"), case(1, "b")], [case(2, "b"), case(3, "c")])
    assert [one.id for one in found] == ["2"]
