"""Training, validation and test by shares of the patients."""

import hashlib
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtmed.data.case import Case
from mtmed.data.parts import PARTS, Parts, split_parts
from mtmed.errors import InputError


def make_cases(patients: int, days: int = 1, dataset: str = "a") -> list[Case]:
    return [
        Case(
            id=f"case{patient}_day{day}",
            image=(f"/{dataset}/case{patient}/case{patient}_day{day}/scans",),
            label=f"/{dataset}/train.csv",
            group=f"case{patient}",
            dataset=dataset,
            visit=f"day{day}",
        )
        for patient in range(patients)
        for day in range(days)
    ]


def patients(cases: tuple[Case, ...]) -> set[tuple[str, str]]:
    return {(case.dataset, case.group) for case in cases}


def days(cases: tuple[Case, ...]) -> set[str]:
    return {case.key for case in cases}


def sizes(parts: Parts) -> tuple[int, int, int]:
    return len(patients(parts.training)), len(patients(parts.validation)), len(patients(parts.test))


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(3, 40),
    visits=st.integers(1, 3),
    shares=st.sampled_from([(70, 20, 10), (60, 20, 20), (80, 20, 0), (50, 0, 50), (100, 0, 0), (12.5, 12.5, 75)]),
    key=st.sampled_from(["patient", "patient_day"]),
    seed=st.integers(0, 100),
    order=st.randoms(use_true_random=False),
)
def test_parts_cover_all_share_nothing_and_ignore_the_order_of_the_rows(count, visits, shares, key, seed, order):
    cases = make_cases(count, visits)
    shuffled = cases.copy()
    order.shuffle(shuffled)
    groups = count if key == "patient" else count * visits
    folds = _folds(cases, shares, key, seed)
    validated: list[str] = []
    for fold in range(folds):
        parts = split_parts(cases, shares=shares, fold=fold, key=key, seed=seed)
        again = split_parts(shuffled, shares=shares, fold=fold, key=key, seed=seed)
        assert [days(getattr(parts, name)) for name in PARTS] == [days(getattr(again, name)) for name in PARTS]
        assert sum(len(getattr(parts, name)) for name in PARTS) == len(cases)
        unit = patients if key == "patient" else days
        found = [unit(getattr(parts, name)) for name in PARTS]
        assert len(set.union(*found)) == sum(map(len, found)) == groups
        for share, group in zip(shares, found, strict=True):
            assert (share == 0) == (not group)
            assert len(group) == 1 or abs(len(group) - share / 100 * groups) <= 2
        validated += sorted(days(parts.validation))
    assert len(validated) == len(set(validated)), "folds validate different cases"


def _folds(cases: list[Case], shares: tuple[float, ...], key: str, seed: int) -> int:
    """How many folds there are, by trying."""
    first = split_parts(cases, shares=shares, key=key, seed=seed).validation
    number = len(patients(first) if key == "patient" else days(first))
    all_groups = len(patients(tuple(cases)) if key == "patient" else days(tuple(cases)))
    folds = all_groups // number if number else 1
    with pytest.raises(InputError, match=rf"fold: is {folds}; use "):
        split_parts(cases, shares=shares, fold=folds, key=key, seed=seed)
    return folds


@pytest.mark.parametrize(
    ("count", "shares", "expected"),
    [
        (10, (70, 20, 10), (7, 2, 1)),
        (85, (70, 20, 10), (60, 17, 8)),  # 59.5, 17, 8.5: the earlier part has the larger half
        (8, (70, 20, 10), (6, 1, 1)),  # 5.6, 1.6, 0.8
        (3, (70, 20, 10), (1, 1, 1)),
        (4, (98, 1, 1), (2, 1, 1)),
        (7, (33.3, 33.3, 33.4), (2, 2, 3)),
        (10, (80, 20, 0), (8, 2, 0)),
        (10, (100, 0, 0), (10, 0, 0)),
    ],
)
def test_numbers_of_patients_are_the_shares_by_largest_remainder(count, shares, expected):
    assert sizes(split_parts(make_cases(count, days=2), shares=shares)) == expected


def test_validation_moves_along_the_circle_of_hashed_patients_and_test_follows_it():
    def hashed(case: Case) -> bytes:
        return hashlib.blake2b(f"3/{case.dataset}/{case.group}".encode(), digest_size=16).digest()

    cases = make_cases(10)
    circle = [case.group for case in sorted(cases, key=hashed)]
    for fold in range(5):
        parts = split_parts(cases, fold=fold, seed=3)
        assert {case.group for case in parts.validation} == set(circle[2 * fold : 2 * fold + 2])
        assert [case.group for case in parts.test] == [circle[(2 * fold + 2) % 10]]


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(3, 20), min_size=1, max_size=3),
    fractions=st.lists(st.floats(0.01, 100), min_size=2, max_size=4),
    seed=st.integers(0, 100),
)
def test_fractions_are_nested_and_leave_validation_and_test_alone(counts, fractions, seed):
    cases = [case for index, count in enumerate(counts) for case in make_cases(count, dataset=f"d{index}")]
    found = [split_parts(cases, fraction=fraction, seed=seed) for fraction in (*sorted(fractions), 100)]
    for small, large in pairwise(found):
        assert days(small.training) <= days(large.training)
        assert (small.validation, small.test) == (large.validation, large.test)
    assert {case.dataset for case in found[0].training} == {case.dataset for case in found[-1].training}


def test_each_part_has_its_share_of_each_data_set():
    cases = make_cases(20, dataset="a") + make_cases(10, dataset="b")
    for fold in range(5):
        parts = split_parts(cases, fold=fold)
        for name, share in zip(PARTS, (0.7, 0.2, 0.1), strict=True):
            found = [case.dataset for case in getattr(parts, name)]
            assert abs(found.count("a") - 20 * share) <= 1
            assert abs(found.count("b") - 10 * share) <= 1


def test_patient_day_lets_other_days_of_a_patient_train_and_says_so():
    parts = split_parts(make_cases(4, days=5), key="patient_day")
    assert patients(parts.training) & patients(parts.validation)
    assert (len(parts.training), len(parts.validation), len(parts.test)) == (14, 4, 2)
    assert parts.stated.startswith("split by patient and day")
    assert split_parts(make_cases(4)).stated == "split by patient"


def test_a_part_is_found_by_its_name():
    parts = split_parts(make_cases(10), shares=(80, 20, 0))
    assert parts.part("validation") == parts.validation
    with pytest.raises(InputError, match="part: 'test' has no case; give it a share above 0"):
        parts.part("test")
    with pytest.raises(InputError, match="part: is 'val'; use one of training, validation, test"):
        parts.part("val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": (70, 20)}, r"shares: are \(70, 20\); give three percentages that make 100"),
        ({"shares": [70, 20, 20]}, "shares: are "),
        ({"shares": (0, 50, 50)}, "shares: are "),
        ({"shares": (120, -30, 10)}, "shares: are "),
        ({"shares": (True, 50, 49)}, "shares: are "),
        ({"shares": "70 20 10"}, "shares: are "),
        ({"shares": (float("nan"), 20, 10)}, "shares: are "),
        ({"fold": 5}, "fold: is 5; use a whole number from 0 to 4, since 2 of 10 validate"),
        ({"fold": "none"}, "fold: is 'none'"),
        ({"fold": True}, "fold: is True"),
        ({"fold": 1, "shares": (100, 0, 0)}, "fold: is 1; use 0"),
        ({"fraction": 0}, "fraction: is 0"),
        ({"key": "slice"}, "split key: is 'slice'; use one of patient, patient_day"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        split_parts(make_cases(10), **options)


def test_too_few_patients_are_refused_with_what_to_do():
    with pytest.raises(InputError, match=r"shares: 2 patients cannot make 3 parts; give fewer parts a share"):
        split_parts(make_cases(2, days=4))
    assert sizes(split_parts(make_cases(2), shares=(50, 50, 0))) == (1, 1, 0)
    with pytest.raises(InputError, match="cases: there are none"):
        split_parts([])


def test_a_day_is_needed_to_divide_by_it():
    with pytest.raises(InputError, match="no 'visit'"):
        split_parts([replace(case, visit=None) for case in make_cases(6)], key="patient_day")


def test_an_image_in_two_parts_is_refused_and_a_shared_table_of_masks_is_not():
    cases = [replace(case, image=("/a/same",)) for case in make_cases(6)]
    with pytest.raises(InputError, match="with an image that"):
        split_parts(cases)
    assert len({case.label for case in make_cases(6)}) == 1


def recorded(cases: list[Case], key: str | None = None) -> list[Case]:
    names = ("training", "validation", "test", "training")
    return [replace(case, part=names[int(case.group[4:]) % 4], part_key=key) for case in cases]


@pytest.mark.parametrize("key", [None, "patient"])
def test_recorded_parts_are_kept_whatever_shares_and_seed(key):
    cases = recorded(make_cases(8, days=2), key)
    for seed in range(3):
        parts = split_parts(cases, shares=(60, 20, 20), seed=seed)
        assert all(case.part == name for name in PARTS for case in getattr(parts, name))
        assert sizes(parts) == (4, 2, 2)
    half = split_parts(cases, fraction=50)
    assert sizes(half) == (2, 2, 2)


def test_a_fold_beside_recorded_parts_is_refused_since_it_would_repeat_fold_0():
    with pytest.raises(InputError, match="fold: is 1, but the manifest records which cases train"):
        split_parts(recorded(make_cases(8)), fold=1)


def test_another_key_than_the_recorded_one_is_refused():
    with pytest.raises(InputError, match="split key: is 'patient_day', but the manifest divides a by patient; use pat"):
        split_parts(recorded(make_cases(8), "patient"), key="patient_day")
    cases = recorded(make_cases(8, days=2))
    cases[0] = replace(cases[0], part="test")
    with pytest.raises(InputError, match="patient 'case0' is in test and in training, though split by patient"):
        split_parts(cases)
    assert split_parts(cases, key="patient_day").key == "patient_day"


def test_recorded_parts_must_be_whole():
    cases = recorded(make_cases(8))
    with pytest.raises(InputError, match="a/case3_day0: has no 'part' though other cases have"):
        split_parts([*cases[:3], replace(cases[3], part=None)])
    with pytest.raises(InputError, match="no case of the manifest has 'training'"):
        split_parts([replace(case, part="test") for case in cases])
