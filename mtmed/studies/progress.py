"""What a user sees while a study runs: a bar on a terminal, lines otherwise, and what failed in both."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta

from tqdm import tqdm

from mtmed.studies.execution import Outcome, jobs_to_run
from mtmed.studies.job import Plan
from mtmed.studies.study_folder import LOG, StudyFolder

__all__ = ["StudyProgress", "seconds_left"]


def seconds_left(plan: Plan, folder: StudyFolder, left: Mapping[str, float], slots: int) -> float | None:
    """Estimate of the time that the rest of a study takes.

    A job is taken to last as long as the finished ones of its step did on average; where there is none, as long as all
    finished ones.

    Args:
        plan: the jobs.
        folder: where they lie.
        left: the jobs that run or will run, and for how many seconds they have run.
        slots: how many run at once.

    Returns:
        Seconds; None while no job is finished.
    """
    taken: dict[str, list[float]] = {}
    for key, job in plan.jobs.items():
        seconds = folder.seconds(key)
        if key not in left and seconds is not None:
            taken.setdefault(job.step, []).append(seconds)
    if not taken:
        return None
    everything = [seconds for values in taken.values() for seconds in values]
    work = 0.0
    for key, elapsed in left.items():
        values = taken.get(plan.jobs[key].step, everything)
        work += max(0.0, sum(values) / len(values) - elapsed)
    return work / max(1, min(slots, len(left)))


class StudyProgress:
    """Tells the user how far a study is.

    Args:
        plan: the jobs.
        folder: where they lie.
        slots: how many run at once.
    """

    def __init__(self, plan: Plan, folder: StudyFolder, *, slots: int) -> None:
        self.plan, self.folder, self.slots = plan, folder, slots
        self._outcomes: dict[str, Outcome] = dict.fromkeys(plan.jobs.keys() - jobs_to_run(plan, folder), "finished")
        self._running: Mapping[str, float] = {}
        self._bar, self._drawn = None, 0.0
        if sys.stderr.isatty():
            shape = "{percentage:3.0f}%|{bar:30}| {desc}"
            self._bar = tqdm(total=len(plan.jobs), initial=len(self._outcomes), bar_format=shape, file=sys.stderr)
            self._bar.set_description_str(self.text())
        else:
            self._say(self.text())

    def started(self, key: str) -> None:
        """A job was started."""
        if self._bar is None:
            self._say(f"started {self._name(key)}")

    def locked(self, key: str) -> None:
        """Another command runs a job."""
        self._say(f"waiting for {self._name(key)}, which another process runs")

    def ended(self, key: str, outcome: Outcome) -> None:
        """A job has ended."""
        self._outcomes[key] = outcome
        self._running = {other: seconds for other, seconds in self._running.items() if other != key}
        if outcome == "failed":
            log = self.folder.job_folder(key) / LOG
            self._say(f"failed {self._name(key)}: {self.folder.last_line(key)} (log: {log})")
        elif outcome == "blocked":
            needed = next(
                k for k in self.plan.jobs[key].needs.values() if self._outcomes.get(k) in ("failed", "blocked")
            )
            self._say(f"blocked {self._name(key)}, which needs {self._name(needed)}")
        elif self._bar is None:
            self._say(f"finished {self._name(key)}; {self.text()}")
        if self._bar is not None:
            self._bar.set_description_str(self.text(), refresh=False)
            self._bar.update()

    def tick(self, running: Mapping[str, float]) -> None:
        """Time has passed."""
        self._running = running
        if self._bar is not None and time.monotonic() - self._drawn >= 1:
            self._drawn = time.monotonic()
            self._bar.set_description_str(self.text())

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def text(self) -> str:
        """How many jobs are finished, run, are left and have failed, and the time left."""
        counts = {name: list(self._outcomes.values()).count(name) for name in ("finished", "failed", "blocked")}
        waiting = [key for key in self.plan.jobs if key not in self._outcomes and key not in self._running]
        words = [f"{counts['finished']} of {len(self.plan.jobs)} jobs finished", f"{len(self._running)} running"]
        words.append(f"{len(waiting)} waiting")
        words += [f"{counts[name]} {name}" for name in ("failed", "blocked") if counts[name]]
        left = {**dict.fromkeys(waiting, 0.0), **self._running}
        seconds = seconds_left(self.plan, self.folder, left, self.slots) if left else None
        if seconds is not None:
            words.append(f"about {timedelta(seconds=round(seconds))} left")
        return ", ".join(words)

    def _name(self, key: str) -> str:
        return self.folder.job_folder(key).name

    def _say(self, line: str) -> None:
        if self._bar is not None:
            tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
