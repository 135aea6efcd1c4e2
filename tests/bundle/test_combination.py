"""Options that cannot be meant together end in one line; options that nothing reads are named."""

from collections.abc import Callable
from typing import Any

import pytest

from mtmed.bundle import combination, refuse_combination
from mtmed.errors import InputError


def test_a_combination_that_is_given_is_refused_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        refuse_combination("film", "tells the position", "leave it out", when=True)
    assert str(caught.value) == "film: tells the position; leave it out"


def test_nothing_happens_otherwise() -> None:
    refuse_combination("film", "tells the position", "leave it out", when=False)


@pytest.mark.parametrize(
    ("typed", "overlay", "noticed"),
    [
        ({"pairs": 3}, {}, ["Notice: pairs does nothing here, because nothing is compared"]),
        ({"queue#size": 3}, {}, ["Notice: queue::size does nothing here, because nothing is compared"]),
        ({"width": 48}, {}, []),
        ({}, {"pairs": 3}, []),
    ],
    ids=["typed", "inside", "another", "in an overlay"],
)
def test_what_is_typed_and_not_read_is_named(
    run_toy: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    typed: dict[str, Any],
    overlay: dict[str, Any],
    noticed: list[str],
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(combination.logger, "info", lambda text, *values: lines.append(text % values))
    notice = "$mtmed.bundle.notice_unused(['pairs', 'queue'], 'nothing is compared', when=@new is False)"
    run_toy(overlay, main={"pairs": 2, "queue": {"size": 4}, "run": [notice]}, **typed)
    assert lines == noticed
