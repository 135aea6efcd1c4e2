"""From a study to its jobs: each different command once, in an order in which all that is needed comes first."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.job import MACHINE_KEYS, ChoiceJob, Job, Plan, Run
from mtmed.studies.leaks import check_leaks
from mtmed.studies.overrides import resolve_overrides
from mtmed.studies.plan_checks import check_arms, check_folds, check_lists
from mtmed.studies.references import PLACEHOLDER, steps_named
from mtmed.studies.step_config import StepConfig, load_step_config
from mtmed.studies.study import VARIED, Study

__all__ = ["Job", "Plan", "Run", "make_plan"]


@dataclass
class _Draft:
    """A job whose runs are not all known yet; one with candidates is a choice."""

    step: str
    overrides: dict[str, Any]
    needs: dict[str, str]
    varied: dict[str, Any]
    arms: list[str] = field(default_factory=list)
    candidates: dict[str, dict[int, str]] = field(default_factory=dict)


def make_plan(study: Study) -> Plan:
    """Plan a study and check all of it before anything runs.

    Raises:
        InputError: see `load_step_config`, `resolve_overrides` and `check_leaks`; also if a list varies nothing, if two
            arms, or two that are compared, are the same, or if a fold is not among those of a config.
    """
    configs = {name: load_step_config(step, study.bundle, source=study.file) for name, step in study.steps.items()}
    overrides = _with_absolute_data(resolve_overrides(study, configs), configs)
    check_lists(study)
    check_folds(study, configs, overrides)
    check_leaks(study, configs, overrides)
    drafts = _Drafts(study, overrides)
    runs: list[Run] = []
    for seed, fold, fraction, arm in itertools.product(study.seeds, study.folds, study.fractions, study.arms):
        values = {"fold": fold, "fraction": fraction, "seed": seed}
        runs.append(Run(arm, fold, fraction, seed, {step: drafts.job(arm, step, values) for step in overrides[arm]}))
    for fold, fraction, name in itertools.product(study.folds, study.fractions, study.choices):
        drafts.choice(name, {"fold": fold, "fraction": fraction})
    check_arms(study, runs)
    finished = {key: _job(key, draft, study, configs) for key, draft in drafts.found.items()}
    return Plan(study, configs, overrides, finished, tuple(runs))


class _Drafts:
    """The jobs by key; what a job needs is found before it."""

    def __init__(self, study: Study, overrides: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        self.study, self.overrides = study, overrides
        self.found: dict[str, _Draft] = {}
        self._keys: dict[tuple[Any, ...], str] = {}

    def job(self, arm: str, step: str, values: Mapping[str, Any]) -> str:
        """Key of the job of an arm's step, for a fold, fraction and seed."""
        place = (arm, step, *values.values())
        if place not in self._keys:
            self._keys[place] = self._add_job(arm, step, values)
        return self._keys[place]

    def choice(self, name: str, values: Mapping[str, Any]) -> str:
        """Key of the job of a choice, for a fold and fraction."""
        place = (name, values["fold"], values["fraction"])
        if place not in self._keys:
            self._keys[place] = self._add_choice(name, values)
        return self._keys[place]

    def _add_job(self, arm: str, step: str, values: Mapping[str, Any]) -> str:
        study, given = self.study, self.overrides[arm][step]
        own = {name: values[name] for name in study.steps[step].vary}
        needs: dict[str, str] = {}
        inherited: set[str] = set()
        for name in steps_named(given, study):
            owner, dot, other = name.partition(".")
            if owner in study.choices:
                needs[owner] = self.choice(owner, values)
                given = _replaced(given, name, f"{{{owner}}}/seed{values['seed']}/{other}")
                inherited.add("seed")
            else:
                needs[name] = self.job(owner if dot else arm, other or name, values)
        inherited |= {name for key in needs.values() for name in self.found[key].varied}
        varied = {name: values[name] for name in VARIED if name in own or name in inherited}
        key = _key(step, study.steps[step].config, {**given, **own}, needs)
        draft = self.found.setdefault(key, _Draft(step, {**given, **own}, needs, varied))
        if arm not in draft.arms:
            draft.arms.append(arm)
        return key

    def _add_choice(self, name: str, values: Mapping[str, Any]) -> str:
        choice = self.study.choices[name]
        candidates = {
            arm: {seed: self.job(arm, choice.step, {**values, "seed": seed}) for seed in self.study.seeds}
            for arm in choice.among
        }
        for one, other in itertools.combinations(candidates, 2):
            if candidates[one] == candidates[other]:
                problem = f"{one!r} and {other!r} run the same {choice.step}"
                raise InputError(f"{self.study.file}: choices::{name}", problem, "take one of them out")
        needs = {f"{arm}.{seed}": key for arm, of_arm in candidates.items() for seed, key in of_arm.items()}
        inherited = {given for key in needs.values() for given in self.found[key].varied} - {"seed"}
        varied = {given: values[given] for given in VARIED if given in inherited}
        # in their order, because the first named wins a tie
        key = _key(name, (), {"among": list(candidates), "step": choice.step}, needs)
        self.found.setdefault(key, _Draft(name, {}, needs, varied, candidates=candidates))
        return key


def _job(key: str, draft: _Draft, study: Study, configs: Mapping[str, StepConfig]) -> Job:
    name = _name(key, draft)
    if not draft.candidates:
        return Job(key, name, draft.step, configs[draft.step].files, draft.overrides, draft.needs)
    compared = study.choices[draft.step].step
    return ChoiceJob(key, name, draft.step, (), {}, draft.needs, compared, draft.candidates, draft.varied)


def _key(step: str, config: tuple[str, ...], values: Mapping[str, Any], needs: Mapping[str, str]) -> str:
    kept = {key: value for key, value in values.items() if key not in MACHINE_KEYS}
    text = json.dumps([step, config, kept, needs], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _name(key: str, draft: _Draft) -> str:
    words = ["choice", draft.step] if draft.candidates else [draft.step]
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


def _replaced(value: Any, name: str, path: str) -> Any:
    """The value with a path in place of a placeholder."""
    if isinstance(value, Mapping):
        return {key: _replaced(item, name, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, name, path) for item in value]
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: path if found[1] == name else found[0], value)
    return value
