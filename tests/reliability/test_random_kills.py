"""Killed at random moments and started again with the same command, every run ends as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from launching import Launcher
from random_kills import KilledRuns, damaged_files, fragments
from trained_stages import Stages

from mtmed.networks.weights import atomic_save

# runs of the long list, two kills each
RUNS = {
    "mixcl pretrain": 6,
    "mixcl finetune": 6,
    "siamese_kidney pretrain": 6,
    "siamese_kidney train": 6,
    "ms_lesion train": 5,
    "gi_tract train": 6,
    "two_stage stage1 joint": 5,
    "two_stage stage1 pretrained": 5,
    "two_stage distill": 5,
}
# those that take the least time, for every change
QUICK = ("siamese_kidney pretrain", "gi_tract train")


@pytest.fixture
def killed(stages: Stages, launcher: Launcher, tmp_path: Path) -> Callable[..., KilledRuns]:
    """Runs of a stage, killed so many times in all."""

    def start(name: str, *, kills: int, seed: int) -> KilledRuns:
        runs = KilledRuns(stages[name], tmp_path, launcher, seed=seed)
        while runs.figures.kills < kills and runs.figures.runs < kills:
            runs.run(kills=min(2, kills - runs.figures.kills))
        return runs

    return start


@pytest.mark.parametrize("name", QUICK)
def test_a_run_killed_twice_ends_bit_identical(name: str, killed: Callable[..., KilledRuns]) -> None:
    figures = killed(name, kills=2, seed=0).figures
    assert figures.kills == 2
    assert not figures.faults(), figures


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_runs_killed_at_random_moments_end_bit_identical(name: str, killed: Callable[..., KilledRuns]) -> None:
    figures = killed(name, kills=2 * RUNS[name], seed=1).figures
    print(f"{name}: {figures}")
    assert figures.kills == 2 * RUNS[name]
    assert figures.runs >= RUNS[name]
    assert figures.in_writes >= 1
    assert not figures.faults(), "\n".join(figures.faults())


def test_what_is_not_whole_is_found(tmp_path: Path) -> None:
    atomic_save({"model": {"a": torch.zeros(99)}, "optimizer": {}, "iteration": 3}, tmp_path / "checkpoint.pt")
    (tmp_path / "best.json").write_text("{}")
    assert damaged_files(tmp_path) == []
    assert fragments(tmp_path) == []
    content = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[:-20])
    (tmp_path / "best.json").write_text("{")
    (tmp_path / ".model.pt.7.tmp").touch()
    assert len(damaged_files(tmp_path)) == 2
    assert fragments(tmp_path) == [".model.pt.7.tmp"]
