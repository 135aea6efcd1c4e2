"""Where a study's jobs lie on disk, and what can be read there about them."""

import json
from pathlib import Path
from typing import Any, Literal

from mtmed.studies.plan import Plan

__all__ = ["DONE", "FAILED", "LOG", "JobState", "StudyFolder", "is_finished"]

JobState = Literal["finished", "failed", "missing"]

DONE, FAILED, LOG, RUN = "done.json", "failed.json", "log.txt", "run"


def is_finished(job_folder: Path) -> bool:
    """Whether a job ended with exit status 0 and its output is still there."""
    return (job_folder / DONE).is_file() and (job_folder / RUN).is_dir()


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
        """Finished: ended with exit status 0 and its output is there. Failed: ended otherwise. Missing: neither."""
        folder = self.job_folder(key)
        if is_finished(folder):
            return "finished"
        return "failed" if (folder / FAILED).is_file() else "missing"

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
