"""What a user can get wrong about MS scans ends with one line and the remedy, before any network is trained."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle.scripts import run
from monai.utils import set_determinism
from ms_lesion_runs import MS_LESION, SPACING, TINY_MS, write_brains

from mtmed.bundle.messages import mendable
from mtmed.networks import build_network, save_network

Prepare = Callable[[Path], Any]
RUN = frozenset({"config.json", "log.txt", "data_check.json"})


def image(case: str, modality: str) -> Path:
    return Path(f"cohort/images/{case}_{modality}.nii.gz")


def label(case: str, rater: int = 1) -> Path:
    return Path(f"cohort/labels/{case}_rater{rater}.nii.gz")


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> None:
    """Replace the voxels of a NIfTI file, and move it along the first axis, mm."""
    volume = nib.load(path)
    affine = volume.affine.copy()
    affine[0, 3] += shift
    nib.Nifti1Image(change(np.asarray(volume.dataobj)), affine).to_filename(path)


def change_rows(folder: Path, change: Callable[[int, dict[str, Any]], Any]) -> None:
    path = folder / "cohort" / "dataset.json"
    content = json.loads(path.read_text())
    for number, row in enumerate(content["training"]):
        change(number, row)
    path.write_text(json.dumps(content))


def with_head(data: np.ndarray) -> np.ndarray:
    """Something in every voxel that was 0."""
    noise = np.random.default_rng(0).integers(20, 60, data.shape)
    return np.where(data == 0, noise, data).astype(np.int16)


def with_ringing(data: np.ndarray) -> np.ndarray:
    """Slightly negative along the edge of the brain."""
    inside = np.argwhere(data != 0)
    ringing = data.copy()
    ringing[tuple(inside[::40].T)] = -3
    return ringing


def save_weights(folder: Path, variant: str, modalities: tuple[str, ...] = ("FLAIR", "T1", "T2"), **more: Any) -> None:
    """A ``model.pt`` that was never trained."""
    channels = len(modalities) + (3 if variant == "multi_input" else 0)
    definition = {"_target_": "mtmed.networks.UNet", "features": [3, 4, 4, 4, 4, 3]}
    settings = {
        "variant": variant,
        "label_names": {"0": "background", "1": "lesion"},
        "modalities": list(modalities),
        "heads": [2],
        "spacing": [SPACING] * 3,
        "patch_size": TINY_MS["patch_size"],
        "brain_mask": False,
        "tissue": "hmrf",
        "tissue_modality": "T1",
        "tissue_table": "mtmed",
        "merged_lesions": "in_sample",
        **more,
    }
    name = "model.pt" if more or variant != "rough" else "rough.pt"
    if variant == "rough":
        settings["variant"] = "single"
    save_network(folder / name, build_network({**definition, "in_channels": channels, "out_channels": 2}), settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cohort of three patients of two visits."""
    write_brains(tmp_path / "cohort", patients=3, visits=2)
    return tmp_path


@pytest.fixture(autouse=True)
def _program_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What MONAI's command changes in its process is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    set_determinism(seed=None)
    torch.use_deterministic_algorithms(False)


def command(folder: Path, config: str, arguments: tuple[str, ...]) -> list[str]:
    """What the user types; the options of the tiny run stand in an args file, so that arguments can replace them."""
    options: dict[str, Any] = {
        "dataset_dir": str(folder / "cohort"),
        "output_dir": str(folder / "out"),
        "device": "cpu",
    }
    if config == "train":
        options |= TINY_MS | {"epochs": 1, "iterations_per_epoch": 1, "folds": 3}
        options |= {f"{name}_dir": str(folder / name) for name in ("store", "tissue", "rough")}
    (folder / "options.json").write_text(json.dumps(options))
    typed = [argument.replace("{}", str(folder)) for argument in arguments]
    files = ["--config_file", str(MS_LESION / f"{config}.json"), "--args_file", str(folder / "options.json")]
    return [*files, *typed]


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


@dataclass(frozen=True)
class OddInput:
    """What is unusual but legal, and the notice that it gets, if any."""

    name: str
    prepare: Prepare
    notice: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def cropped_and_moved(path: Path) -> None:
    """The same scan on a smaller grid of its own, in its place in the patient."""
    volume = nib.load(path)
    volume.slicer[1:-1, 2:-1, :].to_filename(path)


def swap(folder: Path) -> None:
    for case in (f"p{patient}_{visit}" for patient in range(3) for visit in range(2)):
        flair, t1 = (folder / image(case, modality) for modality in ("FLAIR", "T1"))
        first, second = flair.read_bytes(), t1.read_bytes()
        flair.write_bytes(second)
        t1.write_bytes(first)


ODD_INPUTS = (
    OddInput(
        "T1 on another grid",
        lambda f: cropped_and_moved(f / image("p0_0", "T1")),
        "Toy_MS/p0_0: has files on other grids than its first image; they are resampled onto it",
    ),
    OddInput("FLAIR given as T1", swap, "T1 looks like FLAIR or T2: white matter is not brighter than cortex"),
    OddInput("heads without a tissue step", lambda f: rewrite(f / image("p0_0", "T1"), with_head)),
    OddInput(
        "lesion mask of 0 and 0.9999",
        lambda f: rewrite(f / label("p0_1"), lambda data: data * np.float32(0.9999)),
        "Toy_MS/p0_1: has label values within 0.001 of whole numbers; they are rounded",
    ),
    OddInput("negative ringing", lambda f: [rewrite(p, with_ringing) for p in (f / "cohort/images").iterdir()]),
)


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=lambda odd: odd.name)
def test_odd_but_legal_input_trains_with_a_notice(odd: OddInput, folder: Path) -> None:
    odd.prepare(folder)
    fire.Fire(run, command=command(folder, "train", ("--variant", "single")))
    notices = [line for line in (folder / "out" / "log.txt").read_text().splitlines() if "Notice: " in line]
    assert any(odd.notice in line for line in notices) if odd.notice else not notices
    assert (folder / "out" / "model.pt").is_file()


def test_heads_with_brain_masks_pass_the_tissue_check(folder: Path) -> None:
    """Only the check, since nothing is trained: the run ends with what comes after it."""
    for path in (folder / "cohort/images").iterdir():
        rewrite(path, with_head)
    bad = BadInput("masked", (), ("--brain_mask", "true", "--rough_folds", "1"))
    assert last_line(folder, bad).startswith("rough_folds: is 1")
