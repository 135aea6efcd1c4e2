"""A study that scores a second step: a report of its own over the arms that have it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtmed.cli import main
from mtmed.errors import InputError
from mtmed.studies import make_plan, read_study

TEST = {
    "config": "evaluate.json",
    "vary": ["fold"],
    "overrides": {"dataset_dir": "{data}", "checkpoint": "{train}/last.pt", "split_seed": 0},
}
SECOND = {
    "steps::test": TEST,
    "score::also": ["test"],
    "reference_arm": None,
    "arms::scratch": {"pretrain": None, "test": None},
    "steps::pretrain::shared_by_folds": "no labels",
}


@pytest.mark.usefixtures("fast")
def test_each_scored_step_has_its_report_over_the_arms_that_have_it(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[set[str], Path, str]] = []

    def note(results: Any, *, output_dir: Path, title: str, **_: Any) -> str:
        reports.append(({result.arm for result in results}, Path(output_dir), title))
        return "a table"

    monkeypatch.setattr("mtmed.studies.report.write_report", note)
    out = tmp_path / "out"
    assert main(["study", str(study_file(SECOND)), "--output", str(out), "--workers", "4"]) == 0
    assert [(arms, place) for arms, place, _ in reports] == [
        ({"scratch", "pretrained"}, out),
        ({"pretrained"}, out / "test"),
    ]
    assert [title.rsplit(": ", 1)[1] for _, _, title in reports] == ["evaluate", "test"]


def test_a_second_step_that_divides_the_data_otherwise_is_a_leak(study_file: Callable[..., Path]) -> None:
    changed = {**SECOND, "steps::test": {**TEST, "overrides": {**TEST["overrides"], "split_seed": 1}}}
    with pytest.raises(InputError, match="would train on validated cases"):
        make_plan(read_study([study_file(changed)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score::also": ["tset"]}, "has 'tset', not another step; did you mean 'test'"),
        ({"score::also": ["evaluate"]}, "has 'evaluate', not another step"),
        ({"reference_arm": "scratch"}, "has 'test', which the reference arm 'scratch' leaves out"),
    ],
)
def test_a_second_step_that_cannot_be_meant_is_refused(
    study_file: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_study([study_file({**SECOND, **changes})])
