"""Killed while volumes are prepared, or predictions and scores written: the same command then gives the same files."""

import hashlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import Launcher
from mixcl_runs import write_dataset
from monai.transforms import Orientationd
from random_kills import damaged_files, facts_of, fragments
from trained_stages import Stages

from mtmed.data import VolumeStore, load_cohort
from mtmed.transforms import LoadVolumed

# a stage that trains what is then used, and the options of its cohort's split that evaluation needs too
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "mixcl": ("mixcl finetune", {"folds": 2}),
    "siamese_kidney": ("siamese_kidney train", {"folds": 3}),
    "ms_lesion": ("ms_lesion train", {"folds": 5}),
    "gi_tract": ("gi_tract train", {"shares": [60, 20, 20]}),
    "two_stage": ("two_stage stage1 joint", {"split_seed": 7}),
}
CASES = 12


def digests(folder: Path) -> dict[str, str]:
    """Contents of all files, by their names."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "locks"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_store_whose_building_is_killed_ends_with_the_same_entries(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "Toy", ("liver",), CASES, 0)
    cases = load_cohort(str(tmp_path / "data")).cases
    keys = ["image", "label"]
    transforms = [LoadVolumed(keys=keys), Orientationd(keys=keys, axcodes="RAS", labels=None)]
    whole = VolumeStore(tmp_path / "whole", transforms=transforms)
    start = time.monotonic()
    whole.build(cases, workers=1)
    needed, generator, broken = time.monotonic() - start, random.Random(0), 0
    killed = VolumeStore(tmp_path / "killed", transforms=transforms)
    for _ in range(6):
        child = os.fork()
        if child == 0:
            killed.build(cases, workers=1)
            os._exit(0)
        end = time.monotonic() + generator.uniform(0, 1) * needed
        while time.monotonic() < end and not list(killed.folder.glob("building-*")):
            time.sleep(0.0005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        broken += bool(list(killed.folder.glob("building-*")))
    assert broken >= 2
    volumes = killed.build(cases, workers=1)
    assert not list(killed.folder.glob("building-*"))
    assert digests(killed.folder) == digests(whole.folder)
    assert np.array_equal(volumes[0].affine, whole.build(cases)[0].affine)


@pytest.mark.slow
@pytest.mark.parametrize("bundle", TRAINED)
def test_a_training_killed_while_it_prepares_its_volumes_ends_alike(
    bundle: str, stages: Stages, launcher: Launcher, tmp_path: Path
) -> None:
    stage, kills = stages[TRAINED[bundle][0]], 0
    words = {name: stage.words(tmp_path / name, workers=0, epochs=1) for name in ("whole", "killed")}
    assert launcher.run(words["whole"], tmp_path / "whole.txt") == 0, (tmp_path / "whole.txt").read_text()
    entries = len(list((tmp_path / "whole" / "store").glob("*"))) - 1
    for wanted in (1, entries // 2, entries - 1):
        launcher.start(words["killed"], tmp_path / "killed.txt")
        store = tmp_path / "killed" / "store"
        while not launcher.ended():
            names = [path.name for path in store.glob("*")]
            if any(name.startswith("building-") for name in names) and len(names) > wanted:
                break
            time.sleep(0.0005)
        launcher.kill()
        kills += launcher.wait() == -signal.SIGKILL
        assert damaged_files(tmp_path / "killed") == []
    assert kills >= 2
    assert launcher.run(words["killed"], tmp_path / "killed.txt") == 0, (tmp_path / "killed.txt").read_text()
    assert facts_of(tmp_path / "killed") == facts_of(tmp_path / "whole")
    assert fragments(tmp_path / "killed") == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["evaluate", "inference"])
@pytest.mark.parametrize("bundle", TRAINED)
def test_predicting_that_is_killed_ends_with_the_same_files(
    bundle: str, what: str, stages: Stages, launcher: Launcher, tmp_path: Path
) -> None:
    name, split = TRAINED[bundle]
    stage, weights = stages[name], stages.trained(name, "model.pt")
    given = {"checkpoint": weights, "dataset_dir": stage.given["dataset_dir"], "device": "cpu"}
    given |= split if what == "evaluate" else {}

    def words(folder: str) -> list[str]:
        options = {**given, "output_dir": str(tmp_path / folder)}
        config = str(stage.config.with_name(f"{what}.json"))
        return [
            "run",
            "--config_file",
            config,
            *(word for key, value in options.items() for word in (f"--{key}", str(value))),
        ]

    start = time.monotonic()
    assert launcher.run(words("whole"), tmp_path / "whole.txt") == 0, (tmp_path / "whole.txt").read_text()
    needed, generator, kills = time.monotonic() - start, random.Random(f"{bundle} {what}"), 0
    folder, log = tmp_path / "killed", tmp_path / "killed.txt"
    for attempt in range(4):
        launcher.start(words("killed"), log)
        end = time.monotonic() + (generator.uniform(0, needed) if attempt % 2 else 10 * needed)
        wanted = generator.randrange(1, 5)
        seen: set[str] = set()
        while not launcher.ended() and time.monotonic() < end and len(seen) < wanted:
            # every second kill comes inside a write
            seen |= set(fragments(folder)) if attempt % 2 == 0 else set()
            time.sleep(0.0005)
        launcher.kill()
        kills += launcher.wait() == -signal.SIGKILL
        assert damaged_files(folder) == []
    assert kills >= 2
    assert launcher.run(words("killed"), log) == 0, log.read_text()
    own = ("config.json", "log.txt", "data_check.json")
    facts = [{k: v for k, v in digests(tmp_path / n).items() if k not in own} for n in ("killed", "whole")]
    assert any(name.endswith(".nii.gz") for name in facts[1])
    assert facts[0] == facts[1]
    assert fragments(folder) == []
