"""Runs that are killed at random moments and started again by the same command until they are finished."""

import hashlib
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launching import WEIGHTS_FILES, Launcher, run_facts
from trained_stages import Stage

from mtmed.errors import InputError
from mtmed.networks.weights import load_checkpoint, load_weights

__all__ = ["Figures", "KilledRuns", "damaged_files", "facts_of", "fragments"]

_PATIENCE = 600.0  # seconds
_FAULTS = ("Traceback", "Not bit-identical", "terminate called", "double free", "corruption")


@dataclass
class Figures:
    """What became of the runs.

    Attributes:
        runs: number of runs that were killed and started again.
        kills: in all runs.
        in_writes: kills that came while a checkpoint was written: its fragment was left.
        lost: what prevented runs from finishing.
        damaged: files that were not whole after a kill.
        different: runs that ended in something else than the uninterrupted one.
        said: lines of logs that should not be there.
        left: fragments that were there at the end.
    """

    runs: int = 0
    kills: int = 0
    in_writes: int = 0
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Everything that should not have happened."""
        return [*self.lost, *self.damaged, *self.different, *self.said, *self.left]

    def __str__(self) -> str:
        good = self.runs - len(self.lost) - len(self.different)
        return (
            f"{self.runs} runs, {self.kills} kills ({self.in_writes} inside a checkpoint write), {len(self.lost)} lost "
            f"runs, {len(self.damaged)} damaged files, {good} bit-identical runs, {len(self.left)} fragments left, "
            f"{len(self.said)} odd lines"
        )


class KilledRuns:
    """Runs of a stage, each compared with an uninterrupted one.

    Args:
        stage: what is run.
        folder: every run has a folder of its own in it.
        launcher: starts the commands.
        seed: of all moments and numbers of workers.
    """

    def __init__(self, stage: Stage, folder: Path, launcher: Launcher, *, seed: int) -> None:
        self.stage, self.folder, self.launcher = stage, folder, launcher
        self.generator = random.Random(f"{stage.name} {seed}")
        self.figures = Figures()
        self._measure()

    def _measure(self) -> None:
        """Run uninterrupted; note the seconds until its first epoch has ended, and until the end."""
        whole, log, start = self.folder / "whole", self.folder / "whole.txt", time.monotonic()
        self.launcher.start(self.stage.words(whole, workers=0), log)
        while "\nepoch " not in log.read_text() and not self.launcher.ended():
            time.sleep(0.01)
        self.start_up = time.monotonic() - start
        assert self.launcher.wait() == 0, log.read_text()
        self.whole_time = time.monotonic() - start
        self.reference, self.iterations = facts_of(whole), _iterations(whole)

    def run(self, *, kills: int) -> int:
        """One run that is killed so many times, every second time in the writing of a checkpoint.

        Returns:
            How many times it was killed; fewer, if it was faster than expected.
        """
        number = self.figures.runs
        folder, log = self.folder / f"killed{number}", self.folder / f"killed{number}.txt"
        self.figures.runs += 1
        done = 0
        for attempt in range(kills):
            self.launcher.start(self.stage.words(folder, workers=self.generator.randrange(3)), log)
            if (number + attempt) % 2:
                self._wait_for_write(folder)
            else:
                self._wait(self.generator.uniform(0, self._time_left(folder)))
            if self.launcher.ended():
                break
            self.launcher.kill()
            status = self.launcher.wait()
            if status == 0:
                self.launcher.start(self.stage.words(folder, workers=0), log)
                break
            if status != -9:
                self.figures.lost.append(f"{folder}: ended with status {status}")
            done += 1
            self.figures.in_writes += any(".checkpoint.pt." in name for name in fragments(folder))
            self.figures.damaged += damaged_files(folder)
        else:
            self.launcher.start(self.stage.words(folder, workers=self.generator.randrange(3)), log)
        self.figures.kills += done
        if (status := self.launcher.wait()) != 0:
            self.figures.lost.append(f"{folder}: ended with status {status}: {log.read_text()[-2000:]}")
        else:
            self._compare(folder)
        self.figures.said += [f"{log}: {fault}" for fault in _FAULTS if fault in log.read_text()]
        return done

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.launcher.ended():
            time.sleep(min(0.002, seconds))

    def _wait_for_write(self, folder: Path) -> None:
        """Wait until one of the next three checkpoints is being written."""
        wanted, before, end = self.generator.randrange(3), self._temporary(folder), time.monotonic() + _PATIENCE
        while not self.launcher.ended() and time.monotonic() < end:
            now = self._temporary(folder)
            if now - before:
                if wanted == 0:
                    return
                wanted -= 1
            before |= now
            time.sleep(0.001)

    def _temporary(self, folder: Path) -> set[tuple[str, int]]:
        found = set()
        for place in self.stage.checkpoint_folders(folder):
            for path in place.glob(".checkpoint.pt.*.tmp"):
                try:
                    found.add((str(path), path.stat().st_ino))
                except FileNotFoundError:
                    continue
        return found

    def _time_left(self, folder: Path) -> float:
        share = 1 - _iterations(folder) / self.iterations
        return self.start_up + share * (self.whole_time - self.start_up)

    def _compare(self, folder: Path) -> None:
        facts = facts_of(folder)
        known = facts.keys() | self.reference.keys()
        unequal = sorted(key for key in known if facts.get(key) != self.reference.get(key))
        if unequal:
            self.figures.different.append(f"{folder}: {len(unequal)} of {len(facts)} facts differ: {unequal[:5]}")
        self.figures.left += [f"{folder}: {name}" for name in fragments(folder)]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.rglob("checkpoint.pt"))


def _iterations(folder: Path) -> int:
    return sum(load_checkpoint(path)["iteration"] for path in _checkpoints(folder))


def facts_of(folder: Path) -> dict[str, Any]:
    """In what two runs must agree, of the run and all that it runs itself, and the volumes that it prepared."""
    facts: dict[str, Any] = {}
    for path in _checkpoints(folder):
        # the folder of a rough network is named by settings, among them the run's own folders
        parts = [part for part in path.relative_to(folder).parts[:-1] if part in ("output", "pretraining", "rough")]
        facts |= {f"{'/'.join(parts)}: {key}": value for key, value in run_facts(path.parent).items()}
    # names of entries depend on the rough network's file, which names the run's own folders
    files = [path for path in (folder / "store").rglob("*") if path.is_file() and path.parent.name != "locks"]
    facts["store"] = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return facts


def fragments(folder: Path) -> list[str]:
    """Temporary files and folders that somebody left."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return [name for name in names if name.endswith(".tmp") or Path(name).name.startswith("building-")]


def damaged_files(folder: Path) -> list[str]:
    """Files under a final name that cannot be read to their end."""
    damaged = []
    final = [path for path in folder.rglob("*") if "/building-" not in str(path)]
    for path in final:
        try:
            if path.name == "checkpoint.pt":
                assert {"model", "optimizer", "iteration"} <= load_checkpoint(path).keys()
            elif path.name in WEIGHTS_FILES:
                load_weights(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
        except (InputError, ValueError, AssertionError) as error:
            damaged.append(f"{path}: {error!r}")
    return damaged
