"""How many processes load the data changes nothing: losses, weights and all that the checkpoint holds."""

from pathlib import Path

import pytest
from launching import Launcher
from random_kills import facts_of
from trained_stages import STAGES, Stages


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_none_one_and_two_workers_give_the_same_bits(
    name: str, stages: Stages, launcher: Launcher, tmp_path: Path
) -> None:
    facts = []
    for workers in (0, 1, 2):
        folder, log = tmp_path / f"{workers}", tmp_path / f"{workers}.txt"
        assert launcher.run(stages[name].words(folder, workers=workers, epochs=2), log) == 0, log.read_text()
        facts.append(facts_of(folder))
    assert any("losses.csv" in key for key in facts[0])
    assert any("checkpoint/model" in key for key in facts[0])
    for other in facts[1:]:
        assert [key for key in facts[0].keys() | other.keys() if facts[0].get(key) != other.get(key)] == []
