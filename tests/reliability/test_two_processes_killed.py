"""One of two gloo processes is killed: the other ends too, and the same command finishes as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launching import ENVIRONMENT, Launcher
from random_kills import facts_of, fragments
from trained_stages import Stage, Stages

from mtmed.networks.weights import load_checkpoint

# batches of one size on both; a weighting by gradients is of one process
STAGES: dict[str, dict[str, Any]] = {
    "mixcl finetune": {"batch_size": 1},
    "two_stage stage1 joint": {"batch_size": 2, "weighting": "constant", "unlabelled": False},
}
KILLS = 10  # of each stage in the long list
KILLS_OF_A_RUN = 5
TO_END = 30.0  # seconds


class Pair:
    """A stage in two processes under torchrun's agent, and the uninterrupted run to compare with."""

    def __init__(self, stage: Stage, more: dict[str, Any], folder: Path, launcher: Launcher) -> None:
        self.stage, self.more, self.folder, self.launcher = stage.with_overlay("multi_gpu"), more, folder, launcher
        self.longest, self.kills = 0.0, 0
        start, log = time.monotonic(), self.start("whole")
        while "\nepoch " not in log.read_text() and not launcher.ended():
            time.sleep(0.01)
        self.start_up = time.monotonic() - start
        assert launcher.wait() == 0, log.read_text()
        self.whole_time = time.monotonic() - start
        self.reference, self.iterations = facts_of(folder / "whole"), self.iteration("whole")

    def start(self, name: str, *, restarts: int = 0) -> Path:
        """Begin or go on with a run; returns its log."""
        log = self.folder / f"{name}.txt"
        for rank in range(2):
            Path(f"{log}.rank{rank}").unlink(missing_ok=True)
        words = self.stage.words(self.folder / name, workers=self.kills % 3 if name != "whole" else 0, **self.more)
        self.launcher.start(words, log, ranks=2, restarts=restarts)
        return log

    def iteration(self, name: str) -> int:
        path = self.folder / name / "output" / "checkpoint.pt"
        return load_checkpoint(path)["iteration"] if path.is_file() else 0

    def kill(self, name: str, log: Path, generator: random.Random) -> int | None:
        """Kill one rank at a random moment of what is left; returns its number, None if all had ended."""
        share = 1 - self.iteration(name) / self.iterations
        end = time.monotonic() + generator.uniform(0, self.start_up + share * (self.whole_time - self.start_up))
        victim = generator.randrange(2)
        file = Path(f"{log}.rank{victim}")
        while (time.monotonic() < end or not (file.is_file() and file.read_text())) and not self.launcher.ended():
            time.sleep(0.005)
        if self.launcher.ended():
            return None
        try:
            os.kill(int(file.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            return None
        self.kills += 1
        return victim

    def all_end(self, log: Path, victim: int, before: int) -> bool:
        """The agent and the other rank end in time, and it is said which rank was killed; False if it was too late."""
        start = time.monotonic()
        status = self.launcher.wait()
        if status == 0:
            self.kills -= 1
            return False
        self.longest = max(self.longest, time.monotonic() - start)
        text = log.read_text()[before:]
        assert status not in (0, -signal.SIGKILL), text
        assert self.longest < TO_END, text
        assert f"rank      : {victim} (local_rank: {victim})" in text, text
        assert "Signal 9 (SIGKILL)" in text, text
        return True

    def assert_finished_alike(self, name: str) -> None:
        log = self.folder / f"{name}.txt"
        assert self.launcher.wait() == 0, log.read_text()
        facts = facts_of(self.folder / name)
        assert [key for key in facts.keys() | self.reference.keys() if facts.get(key) != self.reference.get(key)] == []
        assert fragments(self.folder / name) == []
        assert "Not bit-identical" not in log.read_text()


@pytest.fixture(scope="module")
def pair(stages: Stages, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Two processes of a stage, made once."""
    made: dict[str, Pair] = {}

    def of(name: str) -> Pair:
        if name not in made:
            made[name] = Pair(stages[name], STAGES[name], tmp_path_factory.mktemp("pair"), launcher)
        return made[name]

    return of


def kill_and_finish(pair: Pair, name: str, kills: int, generator: random.Random) -> None:
    log = pair.start(name)
    for _ in range(kills):
        before = len(log.read_text())
        victim = pair.kill(name, log, generator)
        if victim is None:
            break
        all_ended = pair.all_end(log, victim, before)
        pair.start(name)
        if not all_ended:
            break
    pair.assert_finished_alike(name)


def test_the_other_process_ends_and_the_same_command_finishes_alike(pair: Callable[[str], Pair]) -> None:
    two, generator = pair("two_stage stage1 joint"), random.Random(0)
    for attempt in range(5):
        # a moment may come after the end
        if not two.kills:
            kill_and_finish(two, f"quick{attempt}", 1, generator)
    assert two.kills == 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_ranks_killed_at_random_moments(stage: str, pair: Callable[[str], Pair]) -> None:
    two, generator = pair(stage), random.Random(stage)
    before, runs = two.kills, 0
    while two.kills < before + KILLS and runs < KILLS:
        kill_and_finish(two, f"killed{runs}", min(KILLS_OF_A_RUN, before + KILLS - two.kills), generator)
        runs += 1
    assert two.kills == before + KILLS
    print(f"{stage}: {runs} runs, {KILLS} kills, the others ended within {two.longest:.1f} s")


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("victim", [0, 1])
def test_with_one_restart_allowed_a_run_finishes_by_itself(
    stage: str, victim: int, pair: Callable[[str], Pair]
) -> None:
    two, name = pair(stage), f"restarted{victim}"
    log, file = two.start(name, restarts=1), Path(f"{two.folder / name}.txt.rank{victim}")
    while "epoch 1/" not in log.read_text() and not two.launcher.ended():
        time.sleep(0.005)
    os.kill(int(file.read_text()), signal.SIGKILL)
    two.assert_finished_alike(name)
    assert "Continuing at epoch" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_torchrun_and_the_other_process_say_who_is_lost(
    victim: int, pair: Callable[[str], Pair], tmp_path: Path
) -> None:
    """As a user starts it: ``torchrun``, which names the rank; above its report the other process says what to do."""
    two = pair("mixcl finetune")
    words = two.stage.words(tmp_path / "run", workers=0, **{**two.more, "epochs": 2000})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    with (tmp_path / "log.txt").open("w") as log:
        command += ["-m", "monai.bundle", *words]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
    try:
        patience = time.monotonic() + 300
        while "epoch 1/" not in (tmp_path / "log.txt").read_text() and time.monotonic() < patience:
            time.sleep(0.1)
        os.kill(process_of_rank(process.pid, victim), signal.SIGKILL)
        assert process.wait(TO_END) == 1
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = (tmp_path / "log.txt").read_text()
    lost = f"error: process {1 - victim}: lost process {victim} of 2"
    heard = "the same command continues"
    assert lost in text or heard in text, text
    # torchrun ends with a traceback of its own
    assert "Traceback" not in text.partition(" closing signal ")[0], text
    assert f"rank      : {victim} (local_rank: {victim})" in text, text


def process_of_rank(agent: int, rank: int) -> int:
    """Process id of a rank that torchrun started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == agent and f"RANK={rank}" in (folder / "environ").read_text().split("\0"):
                return int(folder.name)
        except OSError:
            continue
    raise LookupError(f"no rank {rank} below {agent}")
