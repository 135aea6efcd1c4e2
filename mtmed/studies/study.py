"""A study in memory: steps x arms x folds x label fractions x random seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["VARIED", "Choice", "Setting", "Step", "Study"]

VARIED = {"fold": "folds", "fraction": "fractions", "seed": "seeds"}
"""What a step may vary with (its config's key), and the study's list of it."""


@dataclass(frozen=True)
class Step:
    """One bundle command of a run.

    Attributes:
        name: how placeholders and arms call it.
        config: config files of the bundle, the first one and its overlays.
        vary: which of ``fold``, ``fraction`` and ``seed`` it is given as keys of these names.
        overrides: config keys and values, the same in all arms.
        shared_by_folds: why the step may read cases that are validated later (see `mtmed.studies.leaks`); None: it may
            not.
    """

    name: str
    config: tuple[str, ...]
    vary: tuple[str, ...]
    overrides: Mapping[str, Any]
    shared_by_folds: str | None = None


@dataclass(frozen=True)
class Setting:
    """A value from the command line, for one step or for all that it concerns.

    Attributes:
        key: key of a config.
        value: the value.
        step: name of the step, None for all that have the key and do not read it from a checkpoint.
    """

    key: str
    value: Any
    step: str | None = None


@dataclass(frozen=True)
class Choice:
    """The best of several arms, by what their trainings found on their own validation cases.

    Arms are compared by the mean over all seeds, for each fold and fraction by itself; ties go to the first.

    Attributes:
        name: how placeholders call it.
        among: the arms that are compared.
        step: the step of theirs whose output folder has the value, in ``best.json``.
        title: heading of its table.
    """

    name: str
    among: tuple[str, ...]
    step: str
    title: str


@dataclass(frozen=True)
class Study:
    """What a study file says.

    Attributes:
        file: the study file.
        title: heading of the report.
        bundle: folder of the configs.
        inputs: values of the study's own placeholders, such as the data sets.
        overrides: config keys and values for all steps whose config has the key.
        folds: which folds validate.
        fractions: percentages of the training patients.
        seeds: random seeds.
        steps: in the order in which a run takes them.
        arms: per arm and step further overrides; None leaves the step out.
        score_step: the step whose ``scores.csv`` is compared.
        also_scored: further steps with a ``scores.csv``, each with a report of its own over the arms that have it.
        metrics: columns of ``scores.csv``.
        organs: organs to compare; None: all.
        reference_arm: the arm that the others are tested against; None: all pairs.
        settings: values from the command line, which stand above all others.
        choices: by name.
        compare: pairs of arms that the study is about; tested as a family of their own.
        pooled: entries of the evaluations' ``summary.json`` that are shown beside the metrics.
        pictured: the arms that curves and cases are drawn of; none: all.
    """

    file: Path
    title: str
    bundle: Path
    inputs: Mapping[str, Any]
    overrides: Mapping[str, Any]
    folds: tuple[int | str, ...]
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    steps: Mapping[str, Step]
    arms: Mapping[str, Mapping[str, Mapping[str, Any] | None]]
    score_step: str
    metrics: tuple[str, ...]
    organs: tuple[str, ...] | None
    reference_arm: str | None
    also_scored: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    choices: Mapping[str, Choice] = field(default_factory=dict)
    compare: tuple[tuple[str, str], ...] = ()
    pooled: tuple[str, ...] = ()
    pictured: tuple[str, ...] = ()
