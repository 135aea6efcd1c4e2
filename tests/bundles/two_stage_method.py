"""The whole two-stage method, tiny: two tasks with two candidates each, the ensemble of teachers and the student."""

import contextlib
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launching import ENVIRONMENT, PATIENCE, Launcher
from running import run_in_process
from two_stage_runs import TINY_TWO_STAGE, TWO_STAGE

from mtmed.bundle.messages import mendable

__all__ = ["CANDIDATES", "SCORED", "Method", "forked_jobs", "wait_for"]

# 6, 5 and 5 patients, 3, 1 and 2 of them with a pneumothorax
SETTINGS = {**TINY_TWO_STAGE, "shares": [40, 30, 30], "split_seed": 0, "epochs": 4, "iterations_per_epoch": 6}
SETTINGS["overlays"] = False  # of the evaluations; the report draws its own
CANDIDATES = {
    "in_painting": ("in_painting_joint_03", "in_painting_pretrained"),
    "jigsaw": ("jigsaw_joint_01", "jigsaw_joint_10"),
}
SCORED = ("teacher_ensemble", "student")
TEACHERS = [f"{{{choice}.train}}/model.pt" for choice in CANDIDATES]
# what is compared on validation is not scored on test, which saves processes
TRAININGS: dict[str, dict[str, Any]] = {
    "in_painting_joint_03": {"task": "in_painting", "mode": "joint", "auxiliary_weight": 0.3},
    "in_painting_pretrained": {"task": "in_painting", "mode": "pretrained"},
    "jigsaw_joint_01": {"task": "jigsaw", "mode": "joint", "auxiliary_weight": 0.1},
    "jigsaw_joint_10": {"task": "jigsaw", "mode": "joint", "auxiliary_weight": 1.0},
}


@dataclass(frozen=True)
class Method:
    """One run of the method.

    Attributes:
        folder: of the study; beside it lies its overlay.
        data: folders ``data`` and ``store`` of a tiny cohort.
        stores: an arm's own store of volumes, by arm.
        settings: in place of those of `SETTINGS`.
    """

    folder: Path
    data: Mapping[str, str]
    stores: Mapping[str, Path] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def options(self, **settings: Any) -> dict[str, Any]:
        """Options of ``run.json``; writes the overlay that they name."""
        study = json.loads((TWO_STAGE / "studies" / "two_stage.json").read_text())
        # at the scale of the demo, as its own file has it
        small = {"train": {"config": "stage1.json"}, "distill": {"config": "distill.json"}, "test": {}}
        steps = {name: {**study["steps"][name], **config} for name, config in small.items()}
        score = {key: study["score"][key] for key in ("step", "metrics", "pooled")}
        own = {arm: {"store_dir": str(path)} for arm, path in self.stores.items()}
        arms: dict[str, Any] = {
            arm: {"train": {**given, **own.get(arm, {})}, "test": None} for arm, given in TRAININGS.items()
        }
        arms["teacher_ensemble"] = {"test": {"checkpoint": TEACHERS[0], "ensemble_with": TEACHERS[1:]}}
        arms["student"] = {"distill": {"teachers": TEACHERS}, "test": {"checkpoint": "{distill}/model.pt"}}
        overlay = {
            "overrides::store_dir": self.data["store"],
            "steps": steps,
            "arms": arms,
            "choices": {name: {"among": list(among), "step": "train"} for name, among in CANDIDATES.items()},
            "score": {**score, "compare": [["student", "teacher_ensemble"]]},
            "reference_arm": "teacher_ensemble",
        }
        path = self.folder.with_name("overlay.json")
        path.write_text(json.dumps(overlay))
        return {
            "dataset_dir": self.data["data"],
            "output_dir": str(self.folder),
            "overlays": [str(path)],
            "settings": {**SETTINGS, **self.settings, **settings},
        }

    def start(self, **more: Any) -> "subprocess.Popen[str]":
        """The command, as a process whose lines come through a pipe."""
        given = {**self.options(), **more}
        words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        config = str(TWO_STAGE / "run.json")
        return subprocess.Popen(
            [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, *words],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *, settings: Mapping[str, Any] | None = None, **more: Any) -> str:
        """The command in this process; gives what it said."""
        given = {**self.options(**(settings or {})), **more}
        return said_by(lambda: run_in_process("run", given, bundle=TWO_STAGE))

    def job(self, *words: str) -> Path:
        """Folder of the only job whose name begins with these words."""
        (folder,) = self.folder.glob(f"jobs/{'-'.join(words)}-*")
        return folder

    def finished(self) -> dict[str, bytes]:
        """Which attempt finished each job, by the job's name."""
        done = self.folder.glob("jobs/*/done.json")
        return {file.parent.name: (file.parent / "command.json").read_bytes() for file in done}


class ForkedProcess:
    """In place of a job's process: one forked from a launcher, which saves the imports."""

    def __init__(self, launcher: Launcher, command: Sequence[str], *, stdout: Any) -> None:
        self._launcher = launcher
        self._order = (list(command[command.index("monai.bundle") + 1 :]), Path(stdout.name))
        self._status: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._status = self._launcher.run(*self._order)

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        return None if self._thread.is_alive() else self._status


@contextlib.contextmanager
def forked_jobs(*, but: str) -> Iterator[None]:
    """Jobs that a study of this process starts one after the other are forked.

    Not so a choice, which is quick, and jobs with `but` in their words: the last line of a forked one that fails is not
    that of a program of its own.
    """
    launcher = Launcher()

    def start(command: Sequence[str], **options: Any) -> Any:
        if "monai.bundle" in command and but not in " ".join(command):
            return ForkedProcess(launcher, command, stdout=options["stdout"])
        return subprocess.Popen(command, **options)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            stand_in = SimpleNamespace(**{**vars(subprocess), "Popen": start})
            patch.setattr("mtmed.studies.attempt.subprocess", stand_in)
            yield
    finally:
        launcher.close()


def said_by(start: Callable[[], Any]) -> str:
    """What is printed, with the one line that it ends with if something is wrong."""
    with io.StringIO() as text, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            start()
        except Exception as error:
            line = mendable(error)
            if line is None:
                raise
            return f"{text.getvalue()}{line}"
        return text.getvalue()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something is there, as long as a process runs."""
    end = time.monotonic() + 10 * PATIENCE
    while not condition():
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.01)
