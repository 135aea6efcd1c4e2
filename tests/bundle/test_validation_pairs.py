"""Whether held-out kidneys can be compared."""

import pytest

from mtmed.bundle import require_validation_pairs
from mtmed.errors import InputError


class Kidneys(list):
    """Stands for volumes: of each, its patient and its sides (1 left, 2 right)."""

    def having(self, map, value):
        assert map == "side"
        return [index for index, (_, sides) in enumerate(self) if value in sides]

    def patient(self, index):
        return "set", self[index][0]


@pytest.mark.parametrize("kidneys", [[("a", (1, 2)), ("b", (2,))], []], ids=["two patients", "no validation"])
def test_two_patients_or_no_validation_pass(kidneys):
    assert require_validation_pairs(Kidneys(kidneys)) is None


@pytest.mark.parametrize(
    ("kidneys", "found"),
    [
        ([("a", (1, 2)), ("b", ())], "1 patient,"),
        ([("a", (1,)), ("a", (2,))], "1 patient,"),
        ([("a", ()), ("b", ())], "0 patients,"),
    ],
    ids=["one has none", "two visits", "none at all"],
)
def test_fewer_are_refused(kidneys, found):
    with pytest.raises(InputError, match=f"validation: has kidneys of {found} and pairs need two; choose another fold"):
        require_validation_pairs(Kidneys(kidneys))
