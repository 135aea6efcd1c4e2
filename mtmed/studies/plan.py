"""From a study to its jobs: each different command once, in an order in which all that is needed comes first."""

import hashlib
import itertools
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.leaks import check_leaks
from mtmed.studies.overrides import PLACEHOLDER, resolve_overrides, steps_named
from mtmed.studies.step_config import StepConfig, load_step_config
from mtmed.studies.study import VARIED, Study

__all__ = ["MACHINE_KEYS", "Job", "Plan", "Run", "make_plan"]

MACHINE_KEYS = frozenset({"device", "workers"})
"""Keys that say where a job runs and not what it is: with others it is still the same job."""


@dataclass(frozen=True)
class Job:
    """One bundle command. Runs that need the same command share its job.

    Attributes:
        key: hash of what the command does.
        name: the step, whom it is for, and the key; names its folder.
        step: name of the step.
        config: config files.
        overrides: keys and values; ``{step}`` stands for the output folder of a needed job.
        needs: per step the key of the job whose output is read.
    """

    key: str
    name: str
    step: str
    config: tuple[Path, ...]
    overrides: Mapping[str, Any]
    needs: Mapping[str, str]

    def command(self, output_dir: Callable[[str], Path]) -> list[str]:
        """The words of the command.

        Args:
            output_dir: gives the output folder of a job by its key.
        """
        folders = {step: str(output_dir(key)) for step, key in self.needs.items()}
        values = {**_filled(self.overrides, folders), "output_dir": str(output_dir(self.key))}
        files = [str(file) for file in self.config]
        words = [f"--{key}={_word(value)}" for key, value in values.items()]
        return [
            sys.executable,
            "-m",
            "monai.bundle",
            "run",
            "--config_file",
            _word(files[0] if len(files) == 1 else files),
            *words,
        ]


@dataclass(frozen=True)
class Run:
    """One cell of the study.

    Attributes:
        arm: name of the arm.
        fold: the fold that validates.
        fraction: percentage of the training patients.
        seed: random seed.
        jobs: per step the key of its job.
    """

    arm: str
    fold: int | str
    fraction: float
    seed: int
    jobs: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """All jobs of a study.

    Attributes:
        study: the study.
        configs: the config of each step.
        overrides: per arm and step the overrides, without what varies.
        jobs: by key; what a job needs stands before it.
        runs: random seeds and folds outermost, so that arms that are compared come side by side.
    """

    study: Study
    configs: Mapping[str, StepConfig]
    overrides: Mapping[str, Mapping[str, Mapping[str, Any]]]
    jobs: Mapping[str, Job]
    runs: tuple[Run, ...]

    def needed_by(self, key: str) -> set[str]:
        """Keys of all jobs that must be finished before a job."""
        direct = set(self.jobs[key].needs.values())
        return direct.union(*(self.needed_by(other) for other in direct))


@dataclass
class _Draft:
    """A job whose runs are not all known yet."""

    step: str
    overrides: dict[str, Any]
    needs: dict[str, str]
    varied: dict[str, Any]
    arms: list[str]


def make_plan(study: Study) -> Plan:
    """Plan a study and check all of it before anything runs.

    Raises:
        InputError: see `load_step_config`, `resolve_overrides` and `check_leaks`; also if a list varies nothing, if two
            arms are the same, or if a fold is not among those of a config.
    """
    configs = {name: load_step_config(step, study.bundle, source=study.file) for name, step in study.steps.items()}
    overrides = _with_absolute_data(resolve_overrides(study, configs), configs)
    _check_lists(study)
    _check_folds(study, configs, overrides)
    check_leaks(study, configs, overrides)
    drafts: dict[str, _Draft] = {}
    runs: list[Run] = []
    for seed, fold, fraction, arm in itertools.product(study.seeds, study.folds, study.fractions, study.arms):
        values = {"fold": fold, "fraction": fraction, "seed": seed}
        jobs: dict[str, str] = {}
        for step, given in overrides[arm].items():
            own = {name: values[name] for name in study.steps[step].vary}
            needs = {name: jobs[name] for name in steps_named(given, overrides[arm])}
            key = _key(step, study.steps[step].config, {**given, **own}, needs)
            inherited = {name for other in needs.values() for name in drafts[other].varied}
            varied = {name: values[name] for name in VARIED if name in own or name in inherited}
            draft = drafts.setdefault(key, _Draft(step, {**given, **own}, needs, varied, []))
            if arm not in draft.arms:
                draft.arms.append(arm)
            jobs[step] = key
        runs.append(Run(arm, fold, fraction, seed, jobs))
    _check_arms(study, runs)
    finished = {
        key: Job(key, _name(key, draft), draft.step, configs[draft.step].files, draft.overrides, draft.needs)
        for key, draft in drafts.items()
    }
    return Plan(study, configs, overrides, finished, tuple(runs))


def _key(step: str, config: tuple[str, ...], values: Mapping[str, Any], needs: Mapping[str, str]) -> str:
    kept = {key: value for key, value in values.items() if key not in MACHINE_KEYS}
    text = json.dumps([step, config, kept, needs], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _name(key: str, draft: _Draft) -> str:
    words = [draft.step]
    if len(draft.arms) == 1:
        words.append(re.sub(r"[^\w.+]+", "_", draft.arms[0]))
    words += [
        f"{name}{value:g}" if isinstance(value, float) else f"{name}{value}" for name, value in draft.varied.items()
    ]
    return "-".join([*words, key])


def _with_absolute_data(
    overrides: Mapping[str, Mapping[str, Mapping[str, Any]]], configs: Mapping[str, StepConfig]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Relative data folders are meant from the folder of the call, so that a call from another one is another study."""
    absolute: dict[str, dict[str, dict[str, Any]]] = {}
    for arm, steps in overrides.items():
        absolute[arm] = {}
        for step, given in steps.items():
            stated = given.get("dataset_dir", configs[step].get("dataset_dir"))
            values = {**given}
            if (data := _absolute(stated)) != stated:
                values["dataset_dir"] = data
            absolute[arm][step] = values
    return absolute


def _absolute(value: Any) -> Any:
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    if not isinstance(value, str) or not value or value.startswith(("$", "@", "%", "{")):
        return value
    return str(Path(value).expanduser().absolute())


def _check_lists(study: Study) -> None:
    for name, plural in VARIED.items():
        values = getattr(study, plural)
        # what only the scored step is given changes no network
        steps = [
            s for s in study.steps.values() if name == "fold" or len(study.steps) == 1 or s.name != study.score_step
        ]
        if len(values) > 1 and not any(name in step.vary for step in steps):
            before = "" if name == "fold" else f" before {study.score_step}"
            problem = f"has {len(values)} values, but no step{before} varies with {name}"
            raise InputError(f"{study.file}: {plural}", problem, f"add {name!r} to the vary of a step")


def _check_folds(
    study: Study, configs: Mapping[str, StepConfig], overrides: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> None:
    for arm, steps in overrides.items():
        for step, given in steps.items():
            count = given.get("folds", configs[step].get("folds"))
            highest = max((fold for fold in study.folds if isinstance(fold, int)), default=0)
            if "fold" in study.steps[step].vary and isinstance(count, int) and highest >= count:
                problem = f"has fold {highest}, but {step} of {arm} divides into {count} folds, counted from 0"
                raise InputError(f"{study.file}: folds", problem, "change the list, or the config's key folds")


def _check_arms(study: Study, runs: list[Run]) -> None:
    scored = {arm: {run.jobs[study.score_step] for run in runs if run.arm == arm} for arm in study.arms}
    for one, other in itertools.combinations(scored, 2):
        if scored[one] == scored[other]:
            problem = f"{one!r} and {other!r} run the same commands"
            raise InputError(f"{study.file}: arms", problem, "take one out; if --set made them equal, take that out")


def _filled(value: Any, folders: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, folders) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, folders) for item in value]
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: folders.get(found[1], found[0]), value)
    return value


def _word(value: Any) -> str:
    """A value as MONAI's command line reads it back: text as it stands if it can be, the rest as JSON or Python."""
    from fire.parser import DefaultParseValue

    for text in (value, json.dumps(value)):
        if isinstance(text, str):
            read = DefaultParseValue(text)
            if type(read) is type(value) and read == value:
                return text
    return repr(value)
