"""Maps that a run needs are asked for by name before it starts."""

import pytest

from mtmed.bundle import require_maps
from mtmed.errors import InputError


def test_first_case_and_the_number_of_others_are_named() -> None:
    cases = {"a": {"tissue": "a.nii.gz"}, "b": {}, "c": {"brain_mask": "c.nii.gz"}}
    with pytest.raises(InputError) as caught:
        require_maps(cases, ["tissue"])
    assert str(caught.value) == 'b: has no map \'tissue\', like 1 other case; list it: "maps": {"tissue": PATH}'
    with pytest.raises(InputError, match="a: has no map 'brain_mask', like 1 other case;"):
        require_maps(cases, ["brain_mask"])


def test_cases_with_all_maps_pass() -> None:
    require_maps({"a": {"tissue": "a.nii.gz", "brain_mask": "b.nii.gz"}}, ["tissue", "brain_mask"])
    require_maps({"a": {}}, [])
