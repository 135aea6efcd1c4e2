"""The jobs of a study as commands, and the runs that they make up."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtmed.studies.references import PLACEHOLDER
from mtmed.studies.step_config import StepConfig
from mtmed.studies.study import Study

__all__ = ["MACHINE_KEYS", "ChoiceJob", "Job", "Plan", "Run"]

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
        overrides: keys and values; a placeholder stands for the output folder of a needed job.
        needs: per placeholder the key of the job whose output is read.
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
        folders = {name: str(output_dir(key)) for name, key in self.needs.items()}
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
class ChoiceJob(Job):
    """The comparison of several arms, see `mtmed.studies.choose`. `step` is the name of the choice.

    Attributes:
        compared: the step of the arms whose outputs are compared.
        candidates: per arm and random seed the key of its job.
        varied: fold and fraction that it is for, if the candidates vary with them.
    """

    compared: str = ""
    candidates: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    varied: Mapping[str, Any] = field(default_factory=dict)

    def command(self, output_dir: Callable[[str], Path]) -> list[str]:
        """The words of the command."""
        words = ["--name", self.step, "--step", self.compared, "--output_dir", str(output_dir(self.key))]
        for arm, of_arm in self.candidates.items():
            for seed, key in of_arm.items():
                words += ["--candidate", arm, str(seed), str(output_dir(key))]
        return [sys.executable, "-m", "mtmed.studies.choose", *words]


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
