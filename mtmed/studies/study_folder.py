"""Where a study's jobs lie on disk, and what can be read there about them."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from mtmed.studies.choose import seed_folder
from mtmed.studies.job import ChoiceJob, Plan

__all__ = [
    "COMMAND",
    "DONE",
    "FAILED",
    "LOG",
    "RUN",
    "JobState",
    "StudyFolder",
    "attempt_of",
    "is_finished",
    "is_outdated",
]

JobState = Literal["finished", "failed", "missing"]

DONE, FAILED, LOG, RUN, COMMAND = "done.json", "failed.json", "log.txt", "run", "command.json"


def is_finished(job_folder: Path, needs: Sequence[Path] = ()) -> bool:
    """Whether a job ended with exit status 0, its output is still there and it is not outdated."""
    return (job_folder / DONE).is_file() and (job_folder / RUN).is_dir() and not is_outdated(job_folder, needs)


def is_outdated(job_folder: Path, needs: Sequence[Path]) -> bool:
    """Whether a job read the output of other attempts at the jobs that it needs than the last ones."""
    read: dict[str, Any] = _read(job_folder / COMMAND).get("needs", {})
    return any(attempt_of(folder) not in (None, read.get(folder.name, attempt_of(folder))) for folder in needs)


def attempt_of(job_folder: Path) -> str | None:
    """Name of the last attempt at a job; None if there was none or its folder is gone."""
    return _read(job_folder / COMMAND).get("attempt")


class StudyFolder:
    """``<path>/jobs/<name of the job>/``: its log and marker; in ``run/`` what the bundle wrote.

    Args:
        path: folder of the study.
        plan: its jobs.
    """

    def __init__(self, path: str | Path, plan: Plan) -> None:
        # as seen from another folder or machine the command must stay the same
        self.path = Path(path).absolute()
        self.plan = plan
        self._folders: dict[str, Path] = {}
        self._seconds: dict[str, float] = {}

    def job_folder(self, key: str) -> Path:
        """Folder of a job. One from an earlier call keeps its name, which an added arm may have changed."""
        if key not in self._folders:
            earlier = sorted((self.path / "jobs").glob(f"*-{key}"))
            self._folders[key] = earlier[0] if earlier else self.path / "jobs" / self.plan.jobs[key].name
        return self._folders[key]

    def output_dir(self, key: str) -> Path:
        """The ``output_dir`` of a job."""
        return self.job_folder(key) / RUN

    def command(self, key: str) -> list[str]:
        """The words of a job's command."""
        return self.plan.jobs[key].command(self.output_dir)

    def state(self, key: str) -> JobState:
        """Finished: ended with exit status 0, and its output is there and made with the last attempts at what it needs.

        Failed: ended otherwise. Missing: neither.
        """
        folder = self.job_folder(key)
        if is_finished(folder) and not self._outdated(key):
            return "finished"
        return "failed" if (folder / FAILED).is_file() else "missing"

    def links_resolve(self, key: str) -> bool:
        """Whether the outputs that a choice links to are there; true of any other job."""
        job = self.plan.jobs[key]
        if not isinstance(job, ChoiceJob):
            return True
        seeds = next(iter(job.candidates.values()))
        return all((seed_folder(self.output_dir(key), seed) / job.compared).exists() for seed in seeds)

    def reopen_broken_choices(self, keys: Collection[str]) -> None:
        """Take the marker from finished choices whose links are lost, as by a copy without links: they choose again."""
        for key in keys:
            if self.state(key) == "finished" and not self.links_resolve(key):
                (self.job_folder(key) / DONE).unlink(missing_ok=True)

    def needed_folders(self, key: str) -> list[Path]:
        """Folders of the jobs whose output a job reads."""
        return [self.job_folder(needed) for needed in self.plan.jobs[key].needs.values()]

    def _outdated(self, key: str) -> bool:
        upstream = any(self._outdated(needed) for needed in self.plan.jobs[key].needs.values())
        return upstream or is_outdated(self.job_folder(key), self.needed_folders(key))

    def seconds(self, key: str) -> float | None:
        """How long the last attempt of a finished job took; None if that is not known."""
        if key not in self._seconds:
            seconds = _read(self.job_folder(key) / DONE).get("seconds")
            if not isinstance(seconds, int | float):
                return None
            self._seconds[key] = float(seconds)
        return self._seconds[key]

    def last_line(self, key: str) -> str:
        """What a failed job said last."""
        return str(_read(self.job_folder(key) / FAILED).get("last_line", ""))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
