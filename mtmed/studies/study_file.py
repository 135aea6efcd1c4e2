"""The study file: which runs are compared. Read, overlaid as MONAI overlays configs, and checked for form."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.file_values import is_name, is_number, is_whole, nearest, require_list, require_mapping, require_text
from mtmed.studies.study import VARIED, Choice, Setting, Step, Study

__all__ = ["read_study"]

_DEFAULTS: dict[str, Any] = {
    "title": None,
    "bundle": "..",
    "inputs": {},
    "overrides": {},
    "folds": [0],
    "fractions": [100],
    "seeds": [0],
    "steps": None,
    "arms": None,
    "choices": {},
    "score": None,
    "reference_arm": None,
}
_OPTIONAL = {"reference_arm"}
_STEP_KEYS = ("config", "vary", "overrides", "shared_by_folds")
_SCORE_KEYS = ("step", "also", "metrics", "organs", "compare", "pooled", "pictured")
_CHOICE_KEYS = ("among", "step", "title")
_NAME = re.compile(r"[A-Za-z]\w*")


def read_study(files: Sequence[str | Path], settings: Sequence[str] = ()) -> Study:
    """Read a study file and its overlays.

    Args:
        files: the study file and files that override it, key by key; ``steps::train::config`` reaches inside, as in
            MONAI's configs. ``bundle`` is relative to the file that states it.
        settings: ``name=value`` each, where name is an input of the study, a config key (for all steps that have it) or
            ``step.key``; values are JSON, or else text.

    Raises:
        InputError: for a file that cannot be read, an unknown or missing key, or a value that cannot be meant.
    """
    content: dict[str, Any] = {}
    bundle = Path(files[0]).parent / _DEFAULTS["bundle"]
    for path in map(Path, files):
        overlay = _read(path)
        if "bundle" in overlay:
            bundle = path.parent / require_text(overlay["bundle"], "bundle", path)
        for key, value in overlay.items():
            _set(content, key, value, path)
    file = Path(files[0])
    for key in content:
        if key not in _DEFAULTS:
            raise InputError(f"{file}: {key}", "unknown key", nearest(key, list(_DEFAULTS)))
    for key, value in _DEFAULTS.items():
        if key not in content and value is None and key not in _OPTIONAL:
            raise InputError(file, f"has no {key!r}", "see docs/studies.md for the form of a study file")
    content = {**_DEFAULTS, **content}
    steps = _steps(content["steps"], file)
    arms = _arms(content["arms"], steps, file)
    score = require_mapping(content["score"], "score", file, _SCORE_KEYS)
    inputs = dict(require_mapping(content["inputs"], "inputs", file))
    if both := sorted(set(inputs) & set(steps)):
        raise InputError(f"{file}: {both[0]}", "names an input and a step", "rename one of them")
    choices = _choices(content["choices"], steps, arms, inputs, file)
    given = [_setting(text, inputs, steps) for text in settings]
    for name, value in inputs.items():
        if value is None:
            raise InputError(f"{file}: inputs::{name}", "has no value", f"give it with --set {name}=VALUE")
    step, reference = score.get("step"), content["reference_arm"]
    if step not in steps:
        raise InputError(f"{file}: score::step", f"is {step!r}, not a step", nearest(str(step), list(steps)))
    if reference is not None and reference not in arms:
        raise InputError(f"{file}: reference_arm", f"is {reference!r}, not an arm", nearest(str(reference), list(arms)))
    if reference is not None and arms[reference].get(str(step), {}) is None:
        problem = f"is {reference!r}, which leaves out {step!r}, which is scored"
        raise InputError(f"{file}: reference_arm", problem, "keep that step in the reference arm")
    also = require_list(score["also"], "score::also", file, is_name, "names of steps") if score.get("also") else ()
    for name in also:
        if name not in steps or name == step:
            others = [other for other in steps if other != step]
            raise InputError(f"{file}: score::also", f"has {name!r}, not another step", nearest(name, others))
        if reference is not None and arms[reference].get(name, {}) is None:
            problem = f"has {name!r}, which the reference arm {reference!r} leaves out"
            raise InputError(f"{file}: score::also", problem, "keep that step in the reference arm")
    organs, pooled = score.get("organs"), score.get("pooled", [])
    return Study(
        file=file,
        title=require_text(content["title"], "title", file),
        bundle=bundle,
        inputs={name: _absolute_if_there(value) for name, value in inputs.items()},
        overrides=require_mapping(content["overrides"], "overrides", file),
        folds=require_list(
            content["folds"], "folds", file, lambda v: v == "none" or (is_whole(v) and v >= 0), "folds from 0"
        ),
        fractions=tuple(
            int(value) if value == int(value) else value  # 15 and 15.0 are the same runs
            for value in require_list(
                content["fractions"],
                "fractions",
                file,
                lambda v: is_number(v) and 0 < v <= 100,
                "percentages up to 100",
            )
        ),
        seeds=require_list(content["seeds"], "seeds", file, lambda v: is_whole(v) and v >= 0, "whole numbers from 0"),
        steps=steps,
        arms=arms,
        score_step=str(step),
        metrics=require_list(score.get("metrics"), "score::metrics", file, is_name, "columns of scores.csv"),
        organs=None if organs is None else require_list(organs, "score::organs", file, is_name, "names of organs"),
        reference_arm=reference,
        compare=_compare(score.get("compare", []), arms, str(step), file),
        also_scored=tuple(also),
        choices=choices,
        pooled=require_list(pooled, "score::pooled", file, is_name, "entries of summary.json", some=False),
        pictured=require_list(
            score.get("pictured", []), "score::pictured", file, arms.__contains__, "arms", some=False
        ),
        settings=tuple(setting for setting in given if setting is not None),
    )


def _compare(value: Any, arms: Mapping[str, Mapping[str, Any]], step: str, file: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of arms that are scored."""
    place, scored = f"{file}: score::compare", [name for name, steps in arms.items() if steps.get(step, {}) is not None]
    if not isinstance(value, list):
        raise InputError(place, f"is {value!r}", "give a list of pairs of arms")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
            raise InputError(
                place, f"has {pair!r}", "give pairs of different arms, the one that should be better first"
            )
        for arm in pair:
            if arm not in scored:
                raise InputError(place, f"has {arm!r}, which is no arm that is scored", nearest(str(arm), scored))
        if value.count(pair) > 1:
            raise InputError(place, f"has {pair!r} twice", "name each once")
    return tuple((one, other) for one, other in value)


def _read(path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if doubled := sorted({key for key in keys if keys.count(key) > 1}):
            raise InputError(f"{path}: {doubled[0]}", "the key stands twice", "remove one of the two")
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})", "name a study file") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(path, f"is not JSON ({error})", "correct it") from None
    if not isinstance(content, dict):
        raise InputError(path, "is not a dictionary", "see docs/studies.md for the form of a study file")
    return content


def _set(content: dict[str, Any], key: str, value: Any, path: Path) -> None:
    *parents, last = key.replace("#", "::").split("::")
    place: Any = content
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise InputError(f"{path}: {key}", "lies in nothing that the study has", "correct the key")
    place[last] = value


def _setting(text: str, inputs: dict[str, Any], steps: Mapping[str, Step]) -> Setting | None:
    """One ``--set``: an input is put in its place, anything else is returned."""
    name, equals, written = text.partition("=")
    if not (name and equals):
        raise InputError(f"--set {text}", "is not name=value", "write for example --set epochs=2")
    try:
        value = json.loads(written)
    except ValueError:
        value = written
    if name in inputs:
        inputs[name] = value
        return None
    if name in VARIED.values() and (isinstance(value, list) or name != "folds"):
        remedy = f'write {{"{name}": {written}}} into a file and name it after the study file'
        raise InputError(f"--set {name}", f"does not change the study's {name}", remedy)
    step, dot, key = name.partition(".")
    if not dot:
        return Setting(name, value)
    if step not in steps:
        raise InputError(f"--set {name}", f"there is no step {step!r}", nearest(step, list(steps)))
    return Setting(key, value, step)


def _steps(value: Any, file: Path) -> dict[str, Step]:
    steps = {}
    for name, content in require_mapping(value, "steps", file).items():
        place = f"steps::{name}"
        if not _NAME.fullmatch(name):
            raise InputError(f"{file}: {place}", "is no name", "use letters, digits and _")
        content = require_mapping(content, place, file, _STEP_KEYS)
        config = content.get("config")
        reason = content.get("shared_by_folds")
        steps[name] = Step(
            name=name,
            config=require_list(
                [config] if isinstance(config, str) else config, f"{place}::config", file, is_name, "files"
            ),
            vary=require_list(
                content.get("vary", []),
                f"{place}::vary",
                file,
                VARIED.__contains__,
                ", ".join(VARIED),
                some=False,
            ),
            overrides=require_mapping(content.get("overrides", {}), f"{place}::overrides", file),
            shared_by_folds=None if reason is None else require_text(reason, f"{place}::shared_by_folds", file),
        )
    if not steps:
        raise InputError(f"{file}: steps", "there are none", "name at least one bundle command")
    return steps


def _arms(value: Any, steps: Mapping[str, Step], file: Path) -> dict[str, dict[str, Mapping[str, Any] | None]]:
    arms: dict[str, dict[str, Mapping[str, Any] | None]] = {}
    for name, content in require_mapping(value, "arms", file).items():
        place = f"arms::{name}"
        overrides = require_mapping(content, place, file, tuple(steps))
        arms[name] = {
            step: None if given is None else require_mapping(given, f"{place}::{step}", file)
            for step, given in overrides.items()
        }
    if not arms:
        raise InputError(f"{file}: arms", "there are none", "name at least one")
    return arms


def _choices(
    value: Any, steps: Mapping[str, Step], arms: Mapping[str, Any], inputs: Mapping[str, Any], file: Path
) -> dict[str, Choice]:
    choices = {}
    for name, content in require_mapping(value, "choices", file).items():
        place = f"choices::{name}"
        if not _NAME.fullmatch(name):
            raise InputError(f"{file}: {place}", "is no name", "use letters, digits and _")
        for kind, names in (("a step", steps), ("an arm", arms), ("an input", inputs)):
            if name in names:
                raise InputError(f"{file}: {place}", f"is the name of {kind} too", "rename one of them")
        content = require_mapping(content, place, file, _CHOICE_KEYS)
        step, title = content.get("step"), content.get("title")
        if step not in steps:
            raise InputError(f"{file}: {place}::step", f"is {step!r}, not a step", nearest(str(step), list(steps)))
        among = require_list(content.get("among"), f"{place}::among", file, is_name, "names of arms")
        for arm in among:
            if arm not in arms:
                raise InputError(f"{file}: {place}::among", f"has {arm!r}, not an arm", nearest(arm, list(arms)))
            if arms[arm].get(step, {}) is None:
                problem = f"has {arm!r}, which leaves out the step {step!r}"
                raise InputError(f"{file}: {place}::among", problem, "keep that step in the arm, or take the arm out")
        choices[name] = Choice(
            name=name,
            among=among,
            step=str(step),
            title=name if title is None else require_text(title, f"{place}::title", file),
        )
    return choices


def _absolute_if_there(value: Any) -> Any:
    """An input that names a file or folder, seen from the folder of the call, whatever folder a job runs in."""
    if isinstance(value, list):
        return [_absolute_if_there(item) for item in value]
    if isinstance(value, str) and value and len(value) < 1000 and Path(value).expanduser().exists():
        return str(Path(value).expanduser().absolute())
    return value
