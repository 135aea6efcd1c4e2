"""A whole method as one command: its study is run, reported, and the network that it ends with is kept."""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.files import atomic_file
from mtmed.studies.choose import read_best
from mtmed.studies.command import add_arguments, run
from mtmed.studies.plan import Plan, make_plan
from mtmed.studies.study_file import read_study
from mtmed.studies.study_folder import StudyFolder

__all__ = ["check_method", "run_method"]

logger = logging.getLogger(__name__)


def check_method(files: Sequence[str], *, arm: str, step: str, settings: Mapping[str, Any] | None = None) -> Plan:
    """Refuse a study that `run_method` could not run.

    Args:
        files: the study file and those that override it.
        arm: the arm whose network is kept.
        step: the step that writes it.
        settings: inputs of the study, and config keys for all steps that have them.

    Returns:
        What would be run.

    Raises:
        InputError: see `mtmed.studies`; also if there is no such arm or step, or validation scores could not tell which
            network to keep.
    """
    study = read_study(files, _words(settings))
    if arm not in study.arms or step not in study.steps:
        raise InputError(study.file, f"has no arm {arm!r} with a step {step!r}", "name those that end the method")
    if len(study.folds) > 1 or len(study.fractions) > 1:
        problem = "has several folds or fractions, whose validation scores cannot tell which network to keep"
        raise InputError(study.file, problem, "give one of each here, or run it by 'mtmed study'")
    return make_plan(study)


def _words(settings: Mapping[str, Any] | None) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()]


def run_method(
    files: Sequence[str],
    *,
    output_dir: str | Path,
    arm: str,
    step: str,
    settings: Mapping[str, Any] | None = None,
    jobs_at_once: int | None = None,
    slurm: Mapping[str, Any] | None = None,
    next_step: str = "",
) -> None:
    """Run a study as ``mtmed study`` does, and keep the network that one of its arms ends with.

    The same call goes on with what is missing. Of the arm's runs, one per random seed, the network with the best
    validation score is copied to ``model.pt`` in the study's folder.

    Args:
        files: the study file and those that override it.
        output_dir: folder of the study.
        arm: the arm whose network is kept.
        step: the step that writes it.
        settings: inputs of the study, and config keys for all steps that have them.
        jobs_at_once: how many jobs run at once; None for one, on a cluster for all that can run.
        slurm: submit them to a cluster with these parameters of submitit; None runs them on this machine.
        next_step: what to do with the network, for the last line.

    Raises:
        InputError: see `mtmed.studies`; also if a job has failed, or the arm does not write a network.
        SystemExit: if the study was interrupted.
    """
    plan = check_method(files, arm=arm, step=step, settings=settings)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [*files, "--output", str(output_dir)]
    if jobs_at_once is not None:
        given += ["--workers", str(jobs_at_once)]
    if slurm is not None:
        given += ["--slurm", *(f"{name}={json.dumps(value)}" for name, value in slurm.items())]
    status = run(parser.parse_args([*given, *(word for one in _words(settings) for word in ("--set", one))]))
    if status > 1:
        sys.exit(status)
    if status:
        raise InputError(
            output_dir, "some jobs have failed, see above", "mend the cause and run the same command again"
        )
    kept = _keep_best(plan, Path(output_dir), arm, step)
    logger.info("Model: %s (%s). %s", Path(output_dir) / "model.pt", kept, next_step)


def _keep_best(plan: Plan, output_dir: Path, arm: str, step: str) -> str:
    """Copy the best of the arm's networks; says which it is."""
    folder = StudyFolder(output_dir, plan)
    best: tuple[float, str, Path] | None = None
    for one in plan.runs:
        if one.arm != arm:
            continue
        run_dir = folder.output_dir(one.jobs[step])
        if not run_dir.is_dir() and (output_dir / "model.pt").is_file():
            return "kept from before; its training was deleted"
        if not run_dir.is_dir():
            tests = " and ".join(str(folder.job_folder(key)) for name, key in one.jobs.items() if name != step)
            raise InputError(run_dir, "was deleted before its network was kept", f"delete {tests} too and run again")
        score = read_best(run_dir).value
        if best is None or score > best[0]:
            best = (score, f"{arm} of seed {one.seed}, validation {score:.3f}", run_dir / "model.pt")
    assert best is not None  # the study has the arm
    if not best[2].is_file():
        raise InputError(best[2], "is missing", "run the same command again")
    with best[2].open("rb") as source, atomic_file(output_dir / "model.pt") as target:
        shutil.copyfileobj(source, target)
    return best[1]
