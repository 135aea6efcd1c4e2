"""How jobs become processes on this machine."""

import os
from collections.abc import Sequence
from typing import Protocol

from mtmed.studies.attempt import start_attempt
from mtmed.studies.study_folder import StudyFolder

__all__ = ["Launcher", "LocalLauncher", "RunningJob"]


class RunningJob(Protocol):
    """A job that was started."""

    def poll(self) -> int | None:
        """Exit status, None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def wait_ended(self) -> None:
        """Return when it has ended after `terminate`."""


class Launcher(Protocol):
    """Starts jobs.

    Attributes:
        slots: how many may run at once.
    """

    slots: int

    def start(self, key: str) -> RunningJob | None:
        """Start a job; None if another command runs it."""


class LocalLauncher:
    """Processes on this machine, `slots` at once.

    With several at once each process gets its share of the cores (``OMP_NUM_THREADS``, unless the user has set it) and,
    if there are several GPUs, one of them in turn (``CUDA_VISIBLE_DEVICES``).

    Args:
        folder: the study's folder.
        slots: how many at once.
        gpus: names of the GPUs that may be used, as in ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, folder: StudyFolder, *, slots: int = 1, gpus: Sequence[str] = ()) -> None:
        self.folder, self.slots, self.gpus = folder, slots, gpus
        self._places: list[RunningJob | None] = [None] * slots

    def start(self, key: str) -> RunningJob | None:
        """Start a job in the first free place."""
        place = next(index for index, job in enumerate(self._places) if job is None or job.poll() is not None)
        folder = self.folder
        needs = folder.needed_folders(key)
        job = start_attempt(folder.job_folder(key), folder.command(key), self._environment(place), needs)
        self._places[place] = job
        return job

    def _environment(self, place: int) -> dict[str, str]:
        environment: dict[str, str] = {}
        if self.slots > 1 and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(max(1, _cores() // self.slots))
        if self.slots > 1 and len(self.gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        return environment


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
