"""The settings that a study's folder was made with, so that results of other settings are not mixed in."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from mtmed.errors import InputError
from mtmed.files import atomic_file, require_writable_folder
from mtmed.studies.job import MACHINE_KEYS, Plan
from mtmed.studies.study import VARIED

__all__ = ["RECORD", "changed_configs", "keep_record"]

RECORD = "study.json"
_MISSING = object()


def keep_record(plan: Plan, output: Path) -> None:
    """Write ``study.json``, or compare with the one that is there.

    Runs may be added: folds, fractions, random seeds, arms, steps, choices. Everything else must be as it was: the
    content of the configs, the overrides, what varies, what is compared. Keys that only say where a job runs
    (`MACHINE_KEYS`) and how the report is made are free.

    Raises:
        InputError: naming the first difference, or if the folder cannot be written.
    """
    now = _plain(plan)
    path = require_writable_folder(output) / RECORD
    if path.is_file():
        with _readable(path):
            _compare(json.loads(path.read_text(encoding="utf-8")), now, output)
    with atomic_file(path) as file:
        file.write((json.dumps(now, indent=4, ensure_ascii=False) + "\n").encode())


def changed_configs(plan: Plan, output: Path) -> list[str]:
    """Compare with ``study.json`` for a report alone: the configs may have changed since, all else as in `keep_record`.

    Returns:
        The steps whose config is another one now.

    Raises:
        InputError: as `keep_record`.
    """
    path = output / RECORD
    with _readable(path):
        before, now = json.loads(path.read_text(encoding="utf-8")), _plain(plan)
        _compare(before, {**now, "configs": {**now["configs"], **before["configs"]}}, output)
        return [step for step, config in before["configs"].items() if config != now["configs"][step]]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, f"cannot be read ({error})", "restore it, or choose another --output") from None


def _plain(plan: Plan) -> dict[str, Any]:
    study = plan.study

    def kept(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key not in MACHINE_KEYS}

    content = {
        "title": study.title,
        **{plural: list(getattr(study, plural)) for plural in VARIED.values()},
        "vary": {name: list(step.vary) for name, step in study.steps.items()},
        "arms": {arm: {step: kept(given) for step, given in steps.items()} for arm, steps in plan.overrides.items()},
        "choices": {name: {"among": list(c.among), "step": c.step} for name, c in study.choices.items()},
        "configs": {name: kept(config.content) for name, config in plan.configs.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    for plural in VARIED.values():
        if gone := [value for value in before[plural] if value not in now[plural]]:
            _refuse(output, f"has {plural} {gone[0]!r}, which this study lacks")
    for step, vary in before["vary"].items():
        if step not in now["vary"]:
            _refuse(output, f"has the step {step!r}, which this study lacks")
        if vary != now["vary"][step]:
            _refuse(output, f"varies {step} with {vary}, this study with {now['vary'][step]}")
        _same(before["configs"][step], now["configs"][step], f"config of {step}", output)
    for arm, steps in before["arms"].items():
        if arm not in now["arms"]:
            _refuse(output, f"has the arm {arm!r}, which this study lacks")
        # a step that was left out may run now because an added arm reads it
        for step in steps:
            _same(steps[step], now["arms"][arm].get(step), f"{step} of arm {arm!r}", output)
    # folders of before there were choices have none
    for name, choice in before.get("choices", {}).items():
        if choice != now["choices"].get(name):
            _refuse(output, f"has the choice {name!r} among {', '.join(choice['among'])}, unlike this study")


def _same(before: Any, now: Any, what: str, output: Path) -> None:
    if now is None:
        _refuse(output, f"has a {what}, unlike this study")
    for key in dict.fromkeys([*before, *now]):
        one, other = before.get(key, _MISSING), now.get(key, _MISSING)
        if one != other:
            values = " and ".join("its default" if value is _MISSING else repr(value) for value in (one, other))
            values = f": {values} here" if len(values) <= 120 else ""
            _refuse(output, f"has another {key} in the {what}{values}")


def _refuse(output: Path, problem: str) -> NoReturn:
    raise InputError(output, f"holds a study that {problem}", "choose another --output")
