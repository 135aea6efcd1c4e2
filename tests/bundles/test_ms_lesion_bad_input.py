"""What a user can get wrong about MS scans ends with one line and the remedy, before any network is trained."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import fire
import numpy as np
import pytest
from monai.bundle.scripts import run
from ms_lesion_inputs import Prepare, change_rows, command, image, label, rewrite, save_weights, with_head
from ms_lesion_runs import MS_LESION, write_brains

from mtmed.bundle.messages import mendable

pytestmark = pytest.mark.usefixtures("program_state")
RUN = frozenset({".run.lock", "config.json", "log.txt", "data_check.json"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cohort of three patients of two visits."""
    write_brains(tmp_path / "cohort", patients=3, visits=2)
    return tmp_path


@dataclass(frozen=True)
class BadInput:
    """What is done to a good run, and what the last line must say; ``{}`` stands for the folder."""

    name: str
    said: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    prepare: Prepare = lambda folder: None
    config: str = "train"
    files: frozenset[str] = field(default=RUN)


SPM = ("--tissue", "files", "--tissue_table", "spm")
SCANS = (
    BadInput(
        "T1 that does not overlap with FLAIR",
        ("images/p0_0_T1.nii.gz: ", "images/p0_0_FLAIR.nii.gz", "454", "-46"),
        prepare=lambda f: rewrite(f / image("p0_0", "T1"), lambda data: data, shift=500.0),
    ),
    BadInput(
        "T1 with its skull",
        ("images/p1_0_T1.nii.gz: is not skull-stripped: only 0.0% of its voxels are exactly 0", "HD-BET or SynthStrip"),
        prepare=lambda f: rewrite(f / image("p1_0", "T1"), with_head),
    ),
    BadInput(
        "T1 with its skull, tissue as output",
        ("images/p1_0_T1.nii.gz: is not skull-stripped", 'tissue: "files"'),
        ("--variant", "multi_output"),
        prepare=lambda f: rewrite(f / image("p1_0", "T1"), with_head),
    ),
    BadInput(
        "case without T1",
        ("Toy_MS/p2_1: lacks the modality that its tissue map is made of", "leave it out"),
        ("--allow_missing", "true"),
        prepare=lambda f: change_rows(f, lambda n, row: row["image"].__setitem__(1, None) if n == 5 else None),
    ),
    BadInput(
        "case without T2",
        ("Toy_MS/p2_1: has no T2", "--allow_missing true"),
        prepare=lambda f: change_rows(f, lambda n, row: row["image"].__setitem__(2, None) if n == 5 else None),
        files=frozenset(),
    ),
    BadInput(
        "lesion mask of 0 and 255",
        ("labels/p0_1_rater2.nii.gz: label values are 0 and 255 where 0 and 1 are expected", "divide the map by 255"),
        prepare=lambda f: rewrite(f / label("p0_1", 2), lambda data: data * np.uint8(255)),
    ),
    BadInput(
        "visits of a patient in two folds",
        ("Toy_MS/p0_1: patient 'p0' is in the folds 0 and 1", "same 'fold'"),
        prepare=lambda f: change_rows(f, lambda number, row: row.__setitem__("fold", number % 3)),
    ),
)
MAPS = (
    BadInput(
        "no tissue maps in the rows",
        ("Toy_MS/p0_0: has no map 'tissue', like 5 other cases", 'list it: "maps": {"tissue": PATH}'),
        ("--tissue", "files"),
        prepare=lambda f: change_rows(f, lambda number, row: row.pop("maps")),
    ),
    BadInput(
        "no brain mask in a row",
        ("Toy_MS/p1_0: has no map 'brain_mask'; list it",),
        ("--brain_mask", "true", "--variant", "single"),
        prepare=lambda f: change_rows(f, lambda number, row: row["maps"].pop("brain_mask") if number == 2 else None),
    ),
    BadInput(
        "tissue maps of another table",
        ("maps/p1_0_tissue.nii.gz: holds the values 7, which the tissue table does not have",),
        SPM,
        prepare=lambda f: rewrite(
            f / "cohort/maps/p1_0_tissue.nii.gz", lambda data: np.where(data == 3, 7, data).astype(np.uint8)
        ),
    ),
    BadInput(
        "unknown tissue table",
        ("tissue table: is 'sspm', known are mtmed, fast, spm, synthseg",),
        ("--tissue", "files", "--tissue_table", "sspm"),
    ),
)
OPTIONS = (
    BadInput(
        "unknown variant",
        ("variant: is 'multi_inputs'", "choose one of single, multi_input, multi_output"),
        ("--variant", "multi_inputs"),
    ),
    BadInput("unknown tissue", ("tissue: is 'fast'", "choose one of hmrf, files"), ("--tissue", "fast")),
    BadInput(
        "unknown lesions to merge",
        ("merged_lesions: is 'out-of-fold'", "choose one of out_of_fold, in_sample, ground_truth, none"),
        ("--merged_lesions", "out-of-fold"),
    ),
    BadInput(
        "no T1 among the modalities",
        ("tissue_modality: is 'T1'", "choose one of FLAIR, T2"),
        ("--modalities", "['FLAIR','T2']"),
    ),
    BadInput(
        "misspelt modality",
        ("Toy_MS: has no modality 'FLAIRE'", "did you mean 'FLAIR'?"),
        ("--modalities", "['FLAIRE','T1']"),
    ),
    BadInput("modality twice", ("modalities: names 'T1' twice",), ("--modalities", "['FLAIR','T1','T1']")),
    BadInput("one rough fold", ("rough_folds: is 1", "2 or more"), ("--rough_folds", "1")),
    BadInput(
        "out of fold with one patient",
        ("merged_lesions: cannot be out_of_fold with one training patient", "--merged_lesions in_sample"),
        ("--fraction", "5"),
    ),
    BadInput("rater that is not there", ("rater: is 3", "1"), ("--rater", "3", "--variant", "single")),
)
CHECKPOINTS = (
    BadInput(
        "checkpoint of another modality set",
        ("Toy_MS: has no modality 'PD'",),
        ("--checkpoint", "{}/model.pt", "--input", "{}/cohort"),
        lambda f: save_weights(f, "single", ("FLAIR", "T1", "PD")),
        "inference",
    ),
    BadInput(
        "evaluation with a checkpoint of another modality set",
        ("Toy_MS: has no modality 'PD'",),
        ("--checkpoint", "{}/model.pt"),
        lambda f: save_weights(f, "single", ("FLAIR", "T1", "PD")),
        "evaluate",
    ),
    BadInput(
        "modality that the network does not take",
        ("input: has 'T1CE', which is no modality of the network", "did you mean 'T1'?"),
        ("--checkpoint", "{}/model.pt", "--input", "{'FLAIR': 'a.nii.gz', 'T1CE': 'b.nii.gz'}"),
        lambda f: save_weights(f, "single"),
        "inference",
    ),
    BadInput(
        "modality that the network needs",
        ("input: has no T2", "add its path, or pass --allow_missing true"),
        ("--checkpoint", "{}/model.pt", "--input", "{'FLAIR': 'a.nii.gz', 'T1': 'b.nii.gz'}"),
        lambda f: save_weights(f, "single"),
        "inference",
    ),
    BadInput(
        "rough network of other modalities",
        ("{}/rough.pt: was trained with modalities ['FLAIR', 'T1'], wanted is ['FLAIR', 'T1', 'T2']",),
        ("--checkpoint", "{}/model.pt"),
        lambda f: [save_weights(f, "multi_input"), save_weights(f, "rough", ("FLAIR", "T1"))],
        "inference",
    ),
    BadInput(
        "inference without the tissue maps that training had",
        ("has no map 'tissue'", 'list it: "maps": {"tissue": PATH}'),
        ("--checkpoint", "{}/model.pt"),
        lambda f: [
            save_weights(f, "multi_input", tissue="files", merged_lesions="none"),
            change_rows(f, lambda number, row: row.pop("maps")),
        ],
        "inference",
    ),
    BadInput(
        "evaluation of a T1 with its skull",
        ("images/p0_0_T1.nii.gz: is not skull-stripped", "HD-BET or SynthStrip"),
        ("--checkpoint", "{}/model.pt", "--fold", "none"),
        lambda f: [
            save_weights(f, "multi_input", merged_lesions="none"),
            rewrite(f / image("p0_0", "T1"), with_head),
        ],
        "evaluate",
    ),
    BadInput(
        "inference on a T1 with its skull",
        ("images/p0_0_FLAIR.nii.gz: is not skull-stripped", "HD-BET or SynthStrip"),
        ("--checkpoint", "{}/model.pt"),
        lambda f: [
            save_weights(f, "multi_input", merged_lesions="none"),
            rewrite(f / image("p0_0", "T1"), with_head),
        ],
        "inference",
    ),
)
BAD_INPUTS = SCANS + MAPS + OPTIONS + CHECKPOINTS


def last_line(folder: Path, bad: BadInput) -> str:
    with pytest.raises((RuntimeError, ValueError, ModuleNotFoundError)) as caught:
        fire.Fire(run, command=command(folder, bad.config, bad.arguments))
    found = mendable(caught.value)
    assert found is not None, caught.value
    return str(found)


def assert_nothing_half_written(folder: Path, files: frozenset[str] = RUN) -> None:
    written = {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*")}
    assert written <= files
    assert not any((folder / name).exists() for name in ("store", "tissue", "rough"))
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_ends_with_one_line_before_any_training(bad: BadInput, folder: Path) -> None:
    bad.prepare(folder)
    line = last_line(folder, bad)
    for piece in bad.said:
        assert piece.replace("{}", str(folder)) in line
    assert "\n" not in line
    assert_nothing_half_written(folder, bad.files)


@pytest.mark.slow
def test_scan_with_its_skull_leaves_one_line_on_the_terminal(folder: Path) -> None:
    rewrite(folder / image("p1_0", "T1"), with_head)
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *command(folder, "train", ())],
        cwd=MS_LESION.parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    # MONAI warns that a config is a program
    lines = [line for line in done.stderr.splitlines() if not re.search(r"UserWarning: parsing|^ +workflow = ", line)]
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"error: {folder / image('p1_0', 'T1')}: is not skull-stripped")
    assert_nothing_half_written(folder)


@pytest.mark.parametrize("variant", ["multi_input", "multi_output"])
def test_missing_dipy_is_said_before_any_training(variant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_dipy(name: str) -> str:
        if name == "dipy":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_dipy)
    line = last_line(folder, BadInput("no dipy", (), ("--variant", variant)))
    assert "dipy" in line
    assert "pip install" in line
    assert_nothing_half_written(folder)


def test_every_scan_with_its_skull_is_named_at_once(folder: Path) -> None:
    for case in ("p0_0", "p2_1"):
        rewrite(folder / image(case, "T1"), with_head)
    lines = last_line(folder, BadInput("two heads", ())).splitlines()
    assert {line.partition(": ")[0] for line in lines} == {str(folder / image(case, "T1")) for case in ("p0_0", "p2_1")}
    assert len(lines) == 2
    assert_nothing_half_written(folder)


def test_heads_with_brain_masks_pass_the_tissue_check(folder: Path) -> None:
    """Only the check, since nothing is trained: the run ends with what comes after it."""
    for path in (folder / "cohort/images").iterdir():
        rewrite(path, with_head)
    bad = BadInput("masked", (), ("--brain_mask", "true", "--rough_folds", "1"))
    assert last_line(folder, bad).startswith("rough_folds: is 1")
