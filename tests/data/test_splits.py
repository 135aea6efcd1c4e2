import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmed.data.case import Case
from mtmed.data.splits import check_split_disjoint, make_split
from mtmed.errors import InputError


def make_cases(patients: int, visits: int = 1, dataset: str = "a") -> list[Case]:
    return [
        Case(
            id=f"p{patient}_v{visit}",
            image=(f"/{dataset}/p{patient}_v{visit}.nii.gz",),
            label=f"/{dataset}/l{patient}_v{visit}.nii.gz",
            group=f"p{patient}",
            dataset=dataset,
            visit=str(visit),
        )
        for patient in range(patients)
        for visit in range(visits)
    ]


def keys(cases: tuple[Case, ...]) -> set[str]:
    return {case.key for case in cases}


def groups(cases: tuple[Case, ...]) -> set[tuple[str, str]]:
    return {(case.dataset, case.group) for case in cases}


@settings(max_examples=60, deadline=None)
@given(
    patients=st.integers(2, 40),
    visits=st.integers(1, 3),
    folds=st.integers(2, 6),
    seed=st.integers(0, 1000),
    order=st.randoms(use_true_random=False),
)
def test_folds_are_disjoint_cover_all_and_ignore_the_input_order(
    patients: int, visits: int, folds: int, seed: int, order: random.Random
) -> None:
    cases = make_cases(patients, visits)
    if patients < folds:
        with pytest.raises(InputError, match=f"{patients} patients cannot make {folds} folds"):
            make_split(cases, folds=folds, seed=seed)
        return
    shuffled = cases.copy()
    order.shuffle(shuffled)
    validated: list[tuple[str, str]] = []
    for fold in range(folds):
        split = make_split(cases, folds=folds, fold=fold, seed=seed)
        again = make_split(shuffled, folds=folds, fold=fold, seed=seed)
        assert not groups(split.training) & groups(split.validation)
        assert keys(split.training) | keys(split.validation) == {case.key for case in cases}
        assert (keys(again.training), keys(again.validation)) == (keys(split.training), keys(split.validation))
        assert patients // folds <= len(groups(split.validation)) <= -(-patients // folds)
        validated.extend(groups(split.validation))
    assert sorted(validated) == sorted(groups(tuple(cases)))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3).filter(lambda sizes: sum(sizes) >= 5),
    fractions=st.lists(st.floats(0.01, 100), min_size=2, max_size=4),
    fold=st.one_of(st.none(), st.integers(0, 4)),
    seed=st.integers(0, 1000),
)
def test_label_fractions_are_nested_and_leave_validation_alone(
    sizes: list[int], fractions: list[float], fold: int | None, seed: int
) -> None:
    cases = [case for index, size in enumerate(sizes) for case in make_cases(size, dataset=f"d{index}")]
    splits = [make_split(cases, fold=fold, fraction=f, seed=seed) for f in (*sorted(fractions), 100)]
    for small, large in pairwise(splits):
        assert keys(small.training) <= keys(large.training)
        assert small.validation == large.validation
    assert {case.dataset for case in splits[0].training} == {case.dataset for case in splits[-1].training}
    assert keys(splits[-1].training) | keys(splits[-1].validation) == {case.key for case in cases}


@pytest.mark.parametrize(("fraction", "count"), [(5, 2), (15, 5), (30, 10), (50, 17), (100, 33), (0.1, 1)])
def test_fractions_of_the_training_patients_round_half_up(fraction: float, count: int) -> None:
    sizes = {len(make_split(make_cases(41), fold=fold, fraction=fraction).training) for fold in (1, 2, 3, 4)}
    assert sizes == {count}


def test_no_fold_trains_on_everything() -> None:
    split = make_split(make_cases(3), fold=None)
    assert len(split.training) == 3
    assert split.validation == ()


def test_another_seed_gives_other_folds() -> None:
    cases = make_cases(30)
    assert len({frozenset(keys(make_split(cases, seed=seed).validation)) for seed in range(5)}) == 5


def test_the_same_patient_name_in_two_data_sets_is_two_patients() -> None:
    cases = make_cases(5, dataset="a") + make_cases(5, dataset="b")
    split = make_split(cases)
    assert {case.dataset for case in split.validation} == {"a", "b"}
    assert len(split.validation) == 2


def test_folds_of_the_authors_are_kept() -> None:
    cases = [replace(case, fold=index % 4) for index, case in enumerate(make_cases(10))]
    for fold in range(4):
        split = make_split(cases, folds=5, fold=fold)
        assert {case.fold for case in split.validation} == {fold}
        assert fold not in {case.fold for case in split.training}
    with pytest.raises(InputError, match=r"fold: is 4; use one of 0, 1, 2, 3"):
        make_split(cases, fold=4)


def test_folds_given_for_some_cases_only_are_refused() -> None:
    cases = make_cases(6)
    cases[2] = replace(cases[2], fold=0)
    with pytest.raises(InputError, match="'fold' is given for some cases"):
        make_split(cases)


def test_a_patient_in_two_author_folds_is_refused() -> None:
    cases = [replace(case, fold=index % 2) for index, case in enumerate(make_cases(3, visits=2))]
    with pytest.raises(InputError, match=r"patient 'p0' is in the folds 0 and 1"):
        make_split(cases)


def test_author_folds_that_leave_no_training_are_refused() -> None:
    with pytest.raises(InputError, match="all cases are in fold 0"):
        make_split([replace(case, fold=0) for case in make_cases(4)])


def test_patient_day_may_share_patients_but_says_so() -> None:
    cases = make_cases(3, visits=6)
    split = make_split(cases, key="patient_day", fold=0)
    assert groups(split.training) & groups(split.validation)
    assert not {(c.group, c.visit) for c in split.training} & {(c.group, c.visit) for c in split.validation}
    assert split.stated.startswith("split by patient and day")
    assert make_split(make_cases(5)).stated == "split by patient"


def test_patient_day_needs_the_day() -> None:
    cases = [replace(case, visit=None) for case in make_cases(6)]
    with pytest.raises(InputError, match="no 'visit'"):
        make_split(cases, key="patient_day")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0}, "fraction: is 0"),
        ({"fraction": 101}, "fraction: is 101"),
        ({"fraction": float("nan")}, "fraction: is nan"),
        ({"fold": 5}, r"fold: is 5; use one of 0, 1, 2, 3, 4"),
        ({"fold": -1}, "fold: is -1"),
        ({"folds": 1}, "folds: is 1"),
        ({"folds": 20}, r"10 patients cannot make 20 folds; use folds up to 10"),
        ({"key": "slice"}, r"split key: is 'slice'; use one of patient, patient_day"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_split(make_cases(10), **options)  # type: ignore[arg-type]


def test_no_cases_are_refused() -> None:
    with pytest.raises(InputError, match="there are none"):
        make_split([])


def test_a_case_an_image_or_a_patient_in_both_parts_is_refused() -> None:
    first, second, third = make_cases(2)[0], make_cases(2)[1], make_cases(3)[2]
    check_split_disjoint([first], [second])
    with pytest.raises(InputError, match="is in training and in validation"):
        check_split_disjoint([first, second], [second])
    with pytest.raises(InputError, match=r"is in validation with an image that a/p0_v0 has in training"):
        check_split_disjoint([first], [replace(third, image=first.image)])
    with pytest.raises(InputError, match=r"patient 'p0' is in validation and, as a/p0_v0, in training"):
        check_split_disjoint([first], [replace(second, group="p0")])
    check_split_disjoint([first], [replace(second, group="p0", visit="9")], "patient_day")
    with pytest.raises(InputError, match=r"patient 'p0' day '0'"):
        check_split_disjoint([first], [replace(second, group="p0")], "patient_day")


def test_an_image_shared_by_two_patients_cannot_be_split() -> None:
    cases = make_cases(5)
    cases = [replace(case, image=("/a/same.nii.gz",)) for case in cases]
    with pytest.raises(InputError, match="is in validation with an image"):
        make_split(cases)


@pytest.mark.parametrize("turned", [False, True])
def test_a_scan_and_one_of_its_slices_are_not_in_two_parts(turned: bool) -> None:
    scan, other = "/gut/case1_day0/scans", "/gut/case1_day1/scans"
    name = "slice_0004_266_310_1.50_1.50.png"
    whole = Case(id="whole", image=(scan,), label=None, group="a", dataset="scans")
    single = Case(id="single", image=(f"{scan}/../scans/{name}",), label=None, group="b", dataset="slices")
    parts = [[single], [whole]] if turned else [[whole], [single]]
    with pytest.raises(InputError, match=r"is in validation with an image that .* has in training"):
        check_split_disjoint(*parts)
    check_split_disjoint([whole], [replace(single, image=(f"{other}/{name}",))])
    check_split_disjoint([whole], [replace(single, image=(f"{scan}/preview.png",))])
