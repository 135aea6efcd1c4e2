"""The command ``mtmed study``."""

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mtmed.errors import InputError

if TYPE_CHECKING:
    from mtmed.studies.launcher import Launcher
    from mtmed.studies.study_folder import StudyFolder

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mtmed study`` to its parser."""
    parser.add_argument("file", nargs="+", metavar="FILE", help="study file, then files that override it")
    parser.add_argument("--output", metavar="FOLDER", help="folder of the study; default: runs/NAMES OF THE FILES")
    set_help = (
        "an input of the study, or a config key for all steps that have it and do not read it from a checkpoint; "
        "STEP.NAME=VALUE for one step"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=set_help)
    workers_help = "how many jobs at once; default: 1, with --slurm all that can run"
    parser.add_argument("--workers", type=int, metavar="N", help=workers_help)
    slurm_help = "submit the jobs to SLURM, with parameters of submitit such as timeout_min=600 slurm_partition=gpu"
    parser.add_argument("--slurm", nargs="*", metavar="KEY=VALUE", help=slurm_help)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--dry-run", action="store_true", help="check everything and list the jobs with their commands"
    )
    instead.add_argument("--report-only", action="store_true", help="write the report on what is finished")


def run(arguments: argparse.Namespace) -> int:
    """Run a study and write its report.

    Returns:
        Exit status: 0, 1 if a job has failed, 128 + the signal's number if it was stopped.
    """
    if arguments.workers is not None and arguments.workers < 1:
        raise InputError("--workers", f"is {arguments.workers}", "give a whole number from 1")
    parameters = None if arguments.slurm is None else _parameters(arguments.slurm)

    from mtmed.studies.plan import make_plan
    from mtmed.studies.study_file import read_study
    from mtmed.studies.study_folder import StudyFolder

    plan = make_plan(read_study(arguments.file, arguments.set))
    name = "-".join(Path(file).stem for file in arguments.file)
    folder = StudyFolder(arguments.output or Path("runs") / name, plan)
    if arguments.dry_run:
        try:
            _list_jobs(folder)
            sys.stdout.flush()
        except BrokenPipeError:  # as in "| head"; what Python still has to flush goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0

    from mtmed.studies.collect import collect_results, write_run_list
    from mtmed.studies.record import RECORD, changed_configs, keep_record

    if arguments.report_only and not (folder.path / RECORD).is_file():
        raise InputError(folder.path, "holds no study", "run it first, or name its folder with --output")
    if arguments.report_only:
        for step in changed_configs(plan, folder.path):
            line = f"the config of {step} has changed since the study ran; the report is on the study as it ran"
            print(line, file=sys.stderr)
        status = int(any(result.state == "failed" for result in collect_results(folder)))
    else:
        keep_record(plan, folder.path)
        status = _execute(folder, arguments.workers, parameters)
    write_run_list(folder)
    print(_report(folder))
    return status


def _parameters(words: Sequence[str]) -> dict[str, Any]:
    parameters = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise InputError(
                f"--slurm {word}", "is not key=value", "put the study file first, then --slurm timeout_min=600"
            )
        try:
            parameters[key] = json.loads(value)
        except ValueError:
            parameters[key] = value
    return parameters


def _list_jobs(folder: "StudyFolder") -> None:
    """Print each job with its state and command, as a shell script that would run them all."""
    plan = folder.plan
    for key in plan.jobs:
        print(f"# {folder.job_folder(key).name}: {folder.state(key)}")
        print(shlex.join(folder.command(key)))
    states = [folder.state(key) for key in plan.jobs]
    print(f"# {len(plan.runs)} runs of {len(plan.jobs)} jobs, {states.count('finished')} finished, in {folder.path}")


def _execute(folder: "StudyFolder", workers: int | None, parameters: dict[str, Any] | None) -> int:
    from mtmed.studies.execution import execute
    from mtmed.studies.progress import StudyProgress

    launcher = _launcher(folder, workers, parameters)
    progress = StudyProgress(folder.plan, folder, slots=launcher.slots)
    with _caught_signals() as caught:
        try:
            # a scheduler and a shared disk are not asked five times a second
            pause = 0.2 if parameters is None else 5.0
            outcomes = execute(
                folder.plan, folder, launcher, progress, stopped=lambda: bool(caught), poll_seconds=pause
            )
        finally:
            progress.close()
    if caught:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + caught[0]
    return 0 if all(outcome == "finished" for outcome in outcomes.values()) else 1


def _launcher(folder: "StudyFolder", workers: int | None, parameters: dict[str, Any] | None) -> "Launcher":
    if parameters is not None:
        from mtmed.studies.cluster import ClusterLauncher

        return ClusterLauncher(folder, slots=workers, parameters=parameters)
    from mtmed.studies.launcher import LocalLauncher

    return LocalLauncher(folder, slots=workers or 1, gpus=_gpus())


def _gpus() -> list[str]:
    """Names of the GPUs that a process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


@contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Note signals that ask the command to end, instead of ending at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(folder: "StudyFolder") -> str:
    from mtmed.studies.choice_report import collect_choices
    from mtmed.studies.collect import collect_results
    from mtmed.studies.report import write_report

    study = folder.plan.study
    notes = [f" ({s.name} reads all folds: {s.shared_by_folds})" for s in study.steps.values() if s.shared_by_folds]
    texts = []
    for step in (study.score_step, *study.also_scored):
        place = folder.path if step == study.score_step else folder.path / step
        text = write_report(
            collect_results(folder, step),
            title=study.title + "".join(notes) + (f": {step}" if study.also_scored else ""),
            metrics=study.metrics,
            organs=study.organs,
            reference_arm=study.reference_arm,
            compare=study.compare,
            pooled=study.pooled,
            pictured=study.pictured,
            choices=collect_choices(folder) if step == study.score_step else (),
            output_dir=place,
        )
        texts.append(f"{text}\nreport: {place}")
    return "\n\n".join(texts)
