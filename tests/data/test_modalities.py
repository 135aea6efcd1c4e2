from pathlib import Path

import pytest

from mtmed.data import Case, Cohort, Manifest
from mtmed.data.modalities import select_modalities
from mtmed.errors import InputError


def manifest(name: str, modalities: tuple[str, ...], *images: tuple[str | None, ...]) -> Manifest:
    cases = tuple(
        Case(f"case{number}", image, f"/{name}/label{number}", f"p{number}", name, maps={"tissue": f"/t{number}"})
        for number, image in enumerate(images)
    )
    names = {0: "background", 1: "lesion"}
    return Manifest(name, Path(f"/{name}"), modalities, names, cases[:-1], cases[-1:], "", "", True)


FULL = manifest("full", ("T1", "T2", "Flair"), ("a1", "a2", "af"), ("b1", "b2", "bf"))
GAPS = manifest("gaps", ("FLAIR", "T1"), ("cf", "c1"), (None, "d1"), ("ef", None))


def test_images_are_reduced_to_the_names_and_ordered_as_they_are() -> None:
    chosen = select_modalities(Cohort((FULL,)), ["FLAIR", "t1"])
    assert chosen.manifests[0].modalities == ("FLAIR", "t1")
    assert [case.image for case in chosen.cases] == [("af", "a1")]
    assert [case.image for case in chosen.manifests[0].test_cases] == [("bf", "b1")]
    assert chosen.cases[0].maps == {"tissue": "/t0"}
    assert chosen.cases[0].label == "/full/label0"
    assert FULL.cases[0].image == ("a1", "a2", "af")


def test_choosing_again_changes_nothing() -> None:
    once = select_modalities(Cohort((FULL, GAPS)), ["FLAIR", "T1"], allow_missing=True)
    assert select_modalities(once, ["FLAIR", "T1"], allow_missing=True) == once


def test_a_case_that_lacks_a_modality_is_named() -> None:
    message = "gaps/case1: has no FLAIR; pass --allow_missing true, or leave FLAIR out of 'modalities'"
    with pytest.raises(InputError) as caught:
        select_modalities(Cohort((FULL, GAPS)), ["FLAIR", "T1"])
    assert str(caught.value) == message


def test_missing_modalities_can_be_allowed() -> None:
    chosen = select_modalities(Cohort((GAPS,)), ["T1", "FLAIR"], allow_missing=True)
    assert [case.image for case in chosen.cases] == [("c1", "cf"), ("d1", None)]
    assert chosen.manifests[0].test_cases[0].image == (None, "ef")
    assert chosen.manifests[0].test_cases[0].images == ("ef",)


def test_a_data_set_may_lack_a_modality_that_another_one_has() -> None:
    cohort = Cohort((FULL, GAPS))
    with pytest.raises(InputError, match="gaps/case0: has no T2"):
        select_modalities(cohort, ["FLAIR", "T2", "T1"])
    chosen = select_modalities(cohort, ["FLAIR", "T2", "T1"], allow_missing=True)
    assert chosen.manifests[1].cases[0].image == ("cf", None, "c1")


def test_a_case_with_none_of_the_modalities_is_refused_in_any_case() -> None:
    with pytest.raises(InputError, match="gaps/case1: has none of FLAIR; leave the case out"):
        select_modalities(Cohort((GAPS,)), ["FLAIR"], allow_missing=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["FLARE", "T1"], "full, gaps: has no modality 'FLARE'; did you mean 'FLAIR'"),
        (["PET"], "full, gaps: has no modality 'PET'; choose from T1, T2, FLAIR"),
        (["FLAIR", "T1", "flair"], "modalities: names 'flair' twice"),
        ([], r"modalities: is \[\]; give a list of names"),
        ("FLAIR", "modalities: is 'FLAIR'; give a list of names"),
        ([1], r"modalities: is \[1\]"),
    ],
)
def test_wrong_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_modalities(Cohort((FULL, GAPS)), names, allow_missing=True)


def test_one_file_with_all_modalities_cannot_be_taken_apart() -> None:
    both = Cohort((manifest("four", ("FLAIR", "T1"), ("4d",), ("4e",)),))
    assert [case.image for case in select_modalities(both, ["flair", "t1"]).cases] == [("4d",)]
    for names in (["FLAIR"], ["T1", "FLAIR"]):
        with pytest.raises(InputError, match=r"four/case0: has FLAIR, T1 in one file; write a file for each, or use"):
            select_modalities(both, names)


def test_training_can_leave_out_test_cases_that_lack_a_modality() -> None:
    chosen = select_modalities(
        Cohort((manifest("one", ("FLAIR", "T1"), ("a", "b"), ("c", None)),)), ["FLAIR", "T1"], test_cases=False
    )
    assert [case.image for case in chosen.cases] == [("a", "b")]
    assert chosen.manifests[0].test_cases == ()
