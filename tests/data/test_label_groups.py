"""Labels of several data sets merged by their names."""

from pathlib import Path

import pytest

from mtmed.data.label_groups import group_labels, group_names
from mtmed.data.manifest import Cohort, Manifest
from mtmed.errors import InputError

KIDNEY = {"kidney": ["kidney", "tumour", "tumor", "left kidney", "right kidney"]}


def manifest(name, labels):
    return Manifest(name, Path(), ("CT",), labels, (), (), "", "", has_groups=True)


@pytest.fixture
def cohort():
    return Cohort(
        (
            manifest("plain", {0: "background", 1: "kidney"}),
            manifest("kits", {0: "background", 1: "Kidney", 2: "Tumour"}),
            manifest("organs", {0: "background", 3: "liver", 7: "left kidney", 9: "right kidney"}),
        )
    )


def test_a_tumour_counts_as_kidney_where_a_data_set_has_one(cohort):
    assert group_labels(cohort, KIDNEY) == {"plain": {1: 1}, "kits": {1: 1, 2: 1}, "organs": {7: 1, 9: 1}}
    assert group_names(KIDNEY) == {0: "background", 1: "kidney"}


def test_groups_count_from_one_in_their_order(cohort):
    groups = {"tumour": ["TUMOUR"], "kidney": ["kidney"]}
    assert group_labels(Cohort(cohort.manifests[1:2]), groups) == {"kits": {1: 2, 2: 1}}
    assert group_names(groups) == {0: "background", 1: "tumour", 2: "kidney"}


def test_a_data_set_without_a_group_is_named_with_its_labels(cohort):
    with pytest.raises(InputError) as caught:
        group_labels(cohort, {"kidney": ["kidney", "Renal cortex"]})
    problem = "data set organs: has none of the labels of the group 'kidney' (kidney, Renal cortex)"
    remedy = "add one of its own to label_groups: 'liver', 'left kidney', 'right kidney'"
    assert str(caught.value) == f"{problem}; {remedy}"
    with pytest.raises(InputError, match=r"data set plain: .* 'tumour'"):
        group_labels(cohort, KIDNEY | {"kidney": ["kidney"], "tumour": ["tumour"]})


def test_the_background_is_no_label(cohort):
    with pytest.raises(InputError, match="has none of the labels"):
        group_labels(cohort, {"all": ["background"]})


def test_a_name_in_two_groups_is_refused_whatever_its_case(cohort):
    with pytest.raises(InputError, match="label_groups: 'KIDNEY' is in 'first' and in 'second'"):
        group_labels(cohort, {"first": ["kidney"], "second": ["KIDNEY"]})


@pytest.mark.parametrize("groups", [{}, {"kidney": []}, {"kidney": "kidney"}])
def test_groups_without_names_are_refused(cohort, groups):
    with pytest.raises(InputError, match="label_groups"):
        group_labels(cohort, groups)
