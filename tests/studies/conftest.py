"""Study files, their plans, and fast jobs."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_bundle import CONFIGS, STUDY, use_fast_jobs

from mtmed.studies import Plan, make_plan, read_study


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4))
    return path


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the bundle and a study file with changes, keyed as in an overlay."""

    def write(changes: dict[str, Any] | None = None, name: str = "study") -> Path:
        for config, content in CONFIGS.items():
            write_json(tmp_path / "bundle" / f"{config}.json", content)
        content = json.loads(json.dumps(STUDY))
        for key, value in (changes or {}).items():
            *parents, last = key.split("::")
            place = content
            for parent in parents:
                place = place[parent]
            place[last] = copy.deepcopy(value)
        return write_json(tmp_path / "studies" / f"{name}.json", content)

    return write


@pytest.fixture
def plan(study_file: Callable[..., Path]) -> Callable[..., Plan]:
    """Plan the study with changes and settings."""

    def make(changes: dict[str, Any] | None = None, *settings: str) -> Plan:
        return make_plan(read_study([study_file(changes)], settings))

    return make


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fast_jobs(monkeypatch.setattr)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What the report is made from; writing it is another module's affair."""
    calls: list[tuple[Any, dict[str, Any]]] = []

    def write_report(results: Any, **options: Any) -> str:
        calls.append((results, options))
        return "the table"

    monkeypatch.setattr("mtmed.studies.report.write_report", write_report)
    return calls
