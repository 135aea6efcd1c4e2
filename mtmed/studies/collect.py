"""What the runs of a study have come to."""

import csv
import io
from collections.abc import Sequence

from mtmed.files import atomic_file
from mtmed.studies.results import Result
from mtmed.studies.study_folder import JobState, StudyFolder

__all__ = ["RUN_LIST", "collect_results", "write_run_list"]

RUN_LIST = "runs.csv"


def collect_results(folder: StudyFolder, step: str | None = None) -> list[Result]:
    """One result per run that has the scored step, in the order of the plan.

    A run is finished if its scored step is, failed if a step that this one needs has failed, and missing otherwise. Its
    training folder is that of its own step that the scored one needs; networks that are scored together have none.

    Args:
        folder: the study's folder.
        step: the step whose scores are meant; None: the study's.
    """
    plan = folder.plan
    step = step or plan.study.score_step
    results = []
    for run in plan.runs:
        if step not in run.jobs:
            continue
        scored = run.jobs[step]
        own = [key for name, key in plan.jobs[scored].needs.items() if name in run.jobs]
        training = folder.output_dir(own[0]) if len(own) == 1 else None
        state = _state(folder, [scored])
        results.append(
            Result(
                arm=run.arm,
                fold=run.fold,
                fraction=run.fraction,
                seed=run.seed,
                state=state,
                training=training if training is not None and training.is_dir() else None,
                evaluation=folder.output_dir(scored) if state == "finished" else None,
            )
        )
    return results


def _state(folder: StudyFolder, ends: Sequence[str]) -> JobState:
    """How far the jobs are that a run ends with."""
    states = [folder.state(key) for key in ends]
    if all(state == "finished" for state in states):
        return "finished"
    states += [folder.state(key) for end in ends for key in folder.plan.needed_by(end)]
    return "failed" if "failed" in states else "missing"


def write_run_list(folder: StudyFolder) -> None:
    """Write ``runs.csv``: a row per run, with the folder of each of its jobs and how far it is.

    A run that is not scored is as far as all of its jobs together.

    Raises:
        InputError: if it cannot be written.
    """
    plan = folder.plan
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "fold", "fraction", "seed", "state", *plan.study.steps])
    for run in plan.runs:
        scored = run.jobs.get(plan.study.score_step)
        state = _state(folder, list(run.jobs.values()) if scored is None else [scored])
        folders = [f"jobs/{folder.job_folder(run.jobs[s]).name}" if s in run.jobs else "" for s in plan.study.steps]
        writer.writerow([run.arm, run.fold, f"{run.fraction:g}", run.seed, state, *folders])
    with atomic_file(folder.path / RUN_LIST) as file:
        file.write(text.getvalue().encode())
