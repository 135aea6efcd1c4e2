"""Jobs on a cluster's scheduler, through submitit."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmed.errors import InputError
from mtmed.files import atomic_file
from mtmed.studies.attempt import Attempt, NothingToDo, start_attempt
from mtmed.studies.study_folder import FAILED, StudyFolder, is_finished

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

__all__ = ["ClusterJob", "ClusterLauncher"]


class ClusterLauncher:
    """Submits each job when what it needs is finished; the scheduler decides when and where it runs.

    Args:
        folder: the study's folder, which all machines of the cluster must see.
        slots: how many jobs are submitted at once; None: all that can run.
        parameters: of `submitit.AutoExecutor.update_parameters`, such as ``timeout_min`` or ``slurm_partition``.
        cluster: ``slurm``, or ``local`` for submitit's executor on this machine.

    Raises:
        InputError: if submitit is not installed, there is no such scheduler here, or a parameter is unknown.
    """

    def __init__(
        self,
        folder: StudyFolder,
        *,
        slots: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        cluster: str = "slurm",
    ) -> None:
        try:
            import submitit
        except ImportError:
            remedy = "install it: python -m pip install 'mtmed[cluster]'"
            raise InputError("--slurm", "needs the package submitit", remedy) from None
        self.folder, self.slots = folder, slots or max(1, len(folder.plan.jobs))
        try:
            self._executor = submitit.AutoExecutor(folder=folder.path / "submitit" / "%j", cluster=cluster)
            self._executor.update_parameters(**(parameters or {}))
        except (RuntimeError, ValueError, TypeError, NameError) as error:
            line = " ".join(str(error).split())
            remedy = "run this where jobs can be submitted, with parameters of submitit.AutoExecutor"
            raise InputError("--slurm", line, remedy) from None

    def start(self, key: str) -> "ClusterJob":
        """Submit a job."""
        folder = self.folder.job_folder(key)
        (folder / FAILED).unlink(missing_ok=True)
        self._executor.update_parameters(name=self.folder.plan.jobs[key].step)
        needs = self.folder.needed_folders(key)
        return ClusterJob(self._executor.submit(_Work(folder, self.folder.command(key), needs)), folder, needs)


class ClusterJob:
    """A submitted job.

    Args:
        job: submitit's handle.
        folder: folder of the study's job.
        needs: folders of the jobs that it needs.
    """

    def __init__(self, job: "Job[int]", folder: Path, needs: Sequence[Path] = ()) -> None:
        self.job, self.folder, self.needs = job, folder, needs

    def poll(self) -> int | None:
        """Exit status, None while it waits or runs. What the scheduler ended has failed, unless it was finished."""
        if not self.job.done():
            return None
        error = self.job.exception()
        if error is None:
            return int(self.job.result())
        if is_finished(self.folder, self.needs):
            return 0
        if not (self.folder / FAILED).is_file():
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            reason = f"{lines[0].strip()} (see {self.job.paths.stderr})"
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.folder / FAILED) as file:
                file.write((json.dumps({"exit_status": 1, "last_line": reason}, indent=4) + "\n").encode())
        return 1

    def terminate(self) -> None:
        """Cancel the job."""
        self.job.cancel()

    def wait_ended(self) -> None:
        """A cancelled job is the scheduler's affair; the lock keeps others off its folder until it has ended."""


class _Work:
    """What runs on the cluster's machine: the job's process, watched."""

    def __init__(self, folder: Path, command: Sequence[str], needs: Sequence[Path] = ()) -> None:
        self.folder, self.command, self.needs = folder, list(command), list(needs)
        self._attempt: Attempt | NothingToDo | None = None

    def __call__(self) -> int:
        while (attempt := start_attempt(self.folder, self.command, {}, self.needs)) is None:
            time.sleep(5)
        self._attempt = attempt
        while (status := attempt.poll()) is None:
            time.sleep(0.5)
        return status

    def checkpoint(self) -> "DelayedSubmission":
        """Called by submitit before a time-out or when the job is pre-empted: submit it again, it goes on by itself."""
        from submitit.helpers import DelayedSubmission

        if self._attempt is not None:
            self._attempt.terminate()
            self._attempt.wait_ended()
        return DelayedSubmission(_Work(self.folder, self.command, self.needs))
