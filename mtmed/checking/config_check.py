"""``mtmed check`` of a bundle's config: all that is wrong with it, without running it."""

import logging
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import monai
import numpy
import torch

from mtmed.bundle.active import CommandLine, as_given
from mtmed.bundle.options import option_problems
from mtmed.checking.components import component_problems
from mtmed.checking.config_files import parse_settings, read_files
from mtmed.checking.entries import entries
from mtmed.checking.expressions import expression_problems, import_all
from mtmed.checking.lazy_config import LazyConfig
from mtmed.checking.network_check import NetworkCheck
from mtmed.checking.problem import Problem
from mtmed.checking.references import reference_problems
from mtmed.checking.run_checks import run_own_checks
from mtmed.checking.substitutes import Substitutes
from mtmed.data.check import CheckReport
from mtmed.data.demo.made_once import made_elsewhere
from mtmed.data.manifest import Cohort
from mtmed.text_table import print_table

__all__ = ["ConfigReport", "check_config", "examine_config"]

_FILES = frozenset({"checkpoint", "pretrained", "imagenet_weights", "tissue_table", "rough_checkpoint"})
_FILE_LISTS = frozenset({"checkpoints", "ensemble_with", "teachers"})


@dataclass
class ConfigReport:
    """What is known of a config without running it.

    Attributes:
        problems: everything that would stop it.
        notices: what is no fault, one line each.
        cohort: the data that it would read, if that could be told.
        data: what was found in them; None if they were not read.
        memory: estimated peak in bytes of a training step and an inference window.
        available: memory of the device in bytes.
    """

    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    cohort: Cohort | None = None
    data: CheckReport | None = None
    memory: dict[str, int] = field(default_factory=dict)
    available: int = 0


def examine_config(
    files: Sequence[str], *, settings: Mapping[str, Any], read_data: bool = True, workers: int | None = None
) -> ConfigReport:
    """Find everything that is wrong with a config.

    What its text alone tells comes first: keys that stand twice, unknown options, references, components, expressions,
    files. Then the checks of its own ``run`` list are carried out, its data read as its ``check_data`` would, and its
    network built and compared with them. For this the expressions that these depend on are evaluated, and no others;
    what would train, write, or start a process is left out. Synthetic data that are not there are made in a temporary
    folder.

    Args:
        files: the main config, then overlays.
        settings: overrides by id.
        read_data: whether images and labels are read.
        workers: number of threads for that; None for one per core, at most 8.
    """
    report = ConfigReport()
    given, config, report.problems = read_files(files, dict(settings))
    if not config:
        return report
    names: dict[str, Any] = {"monai": monai, "torch": torch, "np": numpy, "numpy": numpy}
    report.problems += import_all(config, names)
    substitutes = Substitutes(read_data=read_data, workers=workers)
    lazy = LazyConfig(config, names=names, substitutes=substitutes.table)
    report.problems += _text_problems(given, config, lazy, names)
    with tempfile.TemporaryDirectory(prefix="mtmed-check-") as folder, made_elsewhere(folder), as_given(given):
        run_own_checks(lazy)
        if not any(problem.kind == "file" for problem in report.problems):
            # what a config without checks of its own reads and computes with
            for key in ("cohort", "dataset::data"):
                lazy.value(key)
        network = NetworkCheck(lazy, substitutes.report)
        network.run()
    told = {(problem.culprit, problem.problem) for problem in report.problems}
    faults = [Problem.of("value", error) for error in lazy.faults.values()]
    for problem in (*faults, *network.problems):
        if (problem.culprit, problem.problem) not in told:
            told.add((problem.culprit, problem.problem))
            report.problems.append(problem)
    report.cohort, report.data = substitutes.cohort, substitutes.report
    if report.data is not None:
        report.problems += [_data_problem(line) for line in report.data.errors]
        report.notices += report.data.notices
    for option, remedy in substitutes.lacking.items():
        report.notices.append(f"{option}: is not given, so network and data were not compared; add {remedy}")
    report.notices += network.notices
    report.memory, report.available = network.memory, network.available
    return report


def _text_problems(
    given: CommandLine, config: dict[str, Any], lazy: LazyConfig, names: Mapping[str, Any]
) -> list[Problem]:
    """What can be told without evaluating anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own word on duplicate keys
        problems = [Problem.of("option", error) for error in option_problems(given, lazy)]
    unknown = {problem.culprit for problem in problems}
    problems += reference_problems(config)
    problems += [problem for problem in component_problems(config, lazy) if problem.culprit not in unknown]
    problems += expression_problems(config, names)
    for identifier, entry in entries(config):
        parent, _, name = identifier.rpartition("::")
        paths = [entry] if name in _FILES else entry if name in _FILE_LISTS and isinstance(entry, list) else []
        for path in paths:
            plain = isinstance(path, str) and not path.startswith(("$", "@", "%")) and path not in {"", "none"}
            if plain and not parent and not Path(path).is_file():
                problems.append(Problem("file", identifier, f"names {path}, which is no file", "correct the path"))
    return problems


def _data_problem(line: str) -> Problem:
    """The record of one line of the data check: culprit, problem, remedy."""
    culprit, _, rest = line.partition(": ")
    problem, _, remedy = rest.rpartition("; ")
    return Problem("data", culprit, problem or rest, remedy if problem else "")


def check_config(
    files: Sequence[str], *, settings: Sequence[str], read_data: bool, workers: int | None
) -> tuple[dict[str, Any], int]:
    """Check a config and print what was found.

    Args:
        files: the main config, then overlays.
        settings: overrides, each ``KEY=VALUE``.
        read_data: whether images and labels are read.
        workers: number of threads for that.

    Returns:
        The report as plain values, and the exit status.
    """
    logger = logging.getLogger("mtmed")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        report = examine_config(files, settings=parse_settings(settings), read_data=read_data, workers=workers)
    finally:
        logger.setLevel(level)
    if report.cohort is not None and report.data is not None:
        from mtmed.checking.cohort_check import print_data_sets

        print_data_sets(report.cohort, report.data)
    for what, needed in report.memory.items():
        share = f"of {report.available / 1e6:.0f} MB"
        print(f"memory of one {what}: about {needed / 1e6:.0f} MB {share}, beside the program")
    for notice in report.notices:
        print(f"notice: {notice}")
    if report.problems:
        rows = [(item.kind, item.culprit, item.problem, item.remedy) for item in report.problems]
        sys.stdout.flush()
        print_table([("kind", "where", "problem", "remedy"), *rows])
    print(f"{len(report.problems)} problems, {len(report.notices)} notices; nothing was run or written")
    content = {
        "problems": [asdict(item) for item in report.problems],
        "notices": report.notices,
        "memory": report.memory,
        "available": report.available,
        "data": None if report.data is None else asdict(report.data),
    }
    return content, 1 if report.problems else 0
