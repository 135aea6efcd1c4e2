"""Runs the jobs of a plan: what is needed first, several at once, whatever fails."""

import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from mtmed.studies.job import Plan
from mtmed.studies.launcher import Launcher, RunningJob
from mtmed.studies.study_folder import StudyFolder

__all__ = ["Observer", "Outcome", "execute", "jobs_to_run"]

Outcome = Literal["finished", "failed", "blocked"]

_LOCKED_SECONDS = 5.0  # between two looks at a job that another command runs


class Observer(Protocol):
    """Is told what happens."""

    def started(self, key: str) -> None:
        """A job was started."""

    def locked(self, key: str) -> None:
        """Another command runs a job; it is waited for."""

    def ended(self, key: str, outcome: Outcome) -> None:
        """A job has ended, or is blocked because one that it needs has failed."""

    def tick(self, running: Mapping[str, float]) -> None:
        """Time has passed; the running jobs and for how many seconds they have run."""


def jobs_to_run(plan: Plan, folder: StudyFolder) -> set[str]:
    """Jobs that are not finished, but for those that only finished jobs need; and what comes after one that runs.

    A training whose folder was removed to save space is not run again while its scores are there.
    """
    open_jobs = {key for key in plan.jobs if folder.state(key) != "finished"}
    needed = {other for job in plan.jobs.values() for other in job.needs.values()}
    found = open_jobs - needed
    # a choice is of no use to others without the trainings that it links to
    of_no_use = open_jobs | {key for key in needed if not folder.links_resolve(key)}
    while True:
        before = {other for key in found for other in plan.jobs[key].needs.values()} & of_no_use
        after = {key for key, job in plan.jobs.items() if found & set(job.needs.values())}
        if before | after <= found:
            return found
        found |= before | after


def execute(
    plan: Plan,
    folder: StudyFolder,
    launcher: Launcher,
    observer: Observer,
    *,
    stopped: Callable[[], bool] = lambda: False,
    poll_seconds: float = 0.2,
) -> dict[str, Outcome]:
    """Run the jobs that `jobs_to_run` names.

    A failed job does not stop the others; those that need it are blocked. When this function ends early, because it is
    stopped or by an exception, all running jobs are ended first; they are not marked, and the next call goes on with
    them.

    Args:
        plan: the jobs.
        folder: where they lie.
        launcher: starts them.
        observer: is told what happens.
        stopped: is asked again and again whether to end early.
        poll_seconds: time between two looks at the running jobs.

    Returns:
        What became of the jobs; those that did not come to their end are left out.

    Raises:
        InputError: if a config has changed since the jobs were planned, or a job cannot be started.
    """
    execution = _Execution(plan, folder, launcher, observer)
    try:
        while execution.goes_on() and not stopped():
            time.sleep(poll_seconds)
    finally:
        execution.end()
    return execution.outcomes


class _Execution:
    """The jobs of a plan by how far they are."""

    def __init__(self, plan: Plan, folder: StudyFolder, launcher: Launcher, observer: Observer) -> None:
        self.plan, self.launcher, self.observer = plan, launcher, observer
        needed = jobs_to_run(plan, folder)
        folder.reopen_broken_choices(needed)
        self.outcomes: dict[str, Outcome] = dict.fromkeys(plan.jobs.keys() - needed, "finished")
        self._waiting = [key for key in plan.jobs if key not in self.outcomes]
        self._running: dict[str, RunningJob] = {}
        self._since: dict[str, float] = {}
        self._locked_until: dict[str, float] = {}

    def goes_on(self) -> bool:
        """Take note of what has ended and start what can start; whether anything is left to do."""
        for key, job in list(self._running.items()):
            status = job.poll()
            if status is not None:
                del self._running[key]
                self._end(key, "failed" if status else "finished")
        # what is needed stands before what needs it, so that one pass finds all that is blocked
        for key in list(self._waiting):
            needs = [self.outcomes.get(needed) for needed in self.plan.jobs[key].needs.values()]
            if any(outcome in ("failed", "blocked") for outcome in needs):
                self._waiting.remove(key)
                self._end(key, "blocked")
            elif all(needs) and len(self._running) < self.launcher.slots:
                self._start(key)
        now = time.monotonic()
        self.observer.tick({key: now - self._since[key] for key in self._running})
        return bool(self._running or self._waiting)

    def _start(self, key: str) -> None:
        if time.monotonic() < self._locked_until.get(key, 0.0):
            return
        config = self.plan.configs.get(self.plan.jobs[key].step)  # a choice has none
        if config is not None:
            config.check_unchanged()
        job = self.launcher.start(key)
        if job is None:
            if key not in self._locked_until:
                self.observer.locked(key)
            self._locked_until[key] = time.monotonic() + _LOCKED_SECONDS
            return
        self._waiting.remove(key)
        self._running[key], self._since[key] = job, time.monotonic()
        self.observer.started(key)

    def _end(self, key: str, outcome: Outcome) -> None:
        self.outcomes[key] = outcome
        self.observer.ended(key, outcome)

    def end(self) -> None:
        """End what still runs."""
        for job in self._running.values():
            job.terminate()
        for job in self._running.values():
            job.wait_ended()
