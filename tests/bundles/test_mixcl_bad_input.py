"""What a user can get wrong ends with one line that names it and the remedy, before training and without leftovers.

Every row of ``BAD_INPUTS`` is typed as a user would. A few run as the real command line; in one process with the others
runs what the command line calls; all run as the real command line in the slow test.
"""

import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fire
import numpy as np
import pytest
import torch
from mixcl_commands import command, run_program
from mixcl_inputs import (
    SETTINGS,
    Prepare,
    add_row,
    change_manifest,
    damage_checksum,
    image,
    label,
    network,
    rewrite,
    split_a_patient,
    truncate,
    with_voxel,
    write_abdomens,
    write_json,
)
from monai.bundle.scripts import run

from mtmed.bundle.messages import mendable
from mtmed.cli import main
from mtmed.networks import save_encoder, save_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cohort of four patients and with the options of a tiny run."""
    write_abdomens(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class BadInput:
    """What is done to a good run, and what the last line must say; ``{}`` stands for the folder."""

    name: str
    said: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    prepare: Prepare = lambda folder: None
    config: str = "pretrain"
    files: frozenset[str] = field(default=frozenset({".run.lock", "config.json", "log.txt", "data_check.json"}))


def weights_file(write: Callable[[Path], Any]) -> Prepare:
    return lambda folder: write(folder / "weights.pt")


def truncated_weights(folder: Path) -> None:
    save_network(folder / "weights.pt", network(), SETTINGS)
    truncate(folder / "weights.pt")


DATA = (
    BadInput("image missing", ("images/1.nii.gz: no such file", "correct"), prepare=lambda f: (f / image(1)).unlink()),
    BadInput(
        "image truncated",
        ("images/1.nii.gz: gzip data end early", "copy or download the file again"),
        prepare=lambda f: truncate(f / image(1)),
    ),
    BadInput(
        "checksum damaged",
        ("images/1.nii.gz: gzip checksum mismatch", "copy or download the file again"),
        prepare=lambda f: damage_checksum(f / image(1)),
    ),
    BadInput(
        "label with another shape",
        ("labels/1.nii.gz: has 30x32x32 voxels", "images/1.nii.gz has 32x32x32", "resample"),
        prepare=lambda f: rewrite(f / label(1), lambda data: data[:30]),
    ),
    BadInput(
        "label with another affine",
        ("labels/1.nii.gz: lies up to 62 mm away", "correct the header"),
        prepare=lambda f: rewrite(f / label(1), lambda data: data, np.diag([-1.0, 1, 1, 1])),
    ),
    BadInput(
        "label outside the manifest",
        ("labels/1.nii.gz: label values 5, 10 are not in the manifest", "1 liver", "correct one of the two"),
        prepare=lambda f: rewrite(f / label(1), lambda data: data * 5),
    ),
    BadInput(
        "label between whole numbers",
        ("labels/1.nii.gz: label values are not whole numbers (0.5", "nearest"),
        prepare=lambda f: rewrite(f / label(1), with_voxel(0.5)),
    ),
    BadInput(
        "NaN in an image",
        ("images/1.nii.gz: 1 voxels are NaN or infinite, the first at (3, 4, 5)", "export the image again"),
        prepare=lambda f: rewrite(f / image(1), with_voxel(np.nan)),
    ),
    BadInput(
        "Inf in an image",
        ("images/1.nii.gz: 1 voxels are NaN or infinite, the first at (3, 4, 5)", "export the image again"),
        prepare=lambda f: rewrite(f / image(1), with_voxel(np.inf)),
    ),
    BadInput(
        "same voxels twice",
        ("images/4.nii.gz: has the same voxels as {}/cohort/images/1.nii.gz", "remove one"),
        prepare=lambda f: (
            shutil.copy(f / image(1), f / image(4)),
            add_row(f, image="images/4.nii.gz", label="labels/1.nii.gz", patient="another"),
        ),
    ),
)
MANIFEST = (
    BadInput(
        "same id twice",
        ("dataset.json training[4]: has the same id '1' as training[1]", "remove one row"),
        prepare=lambda f: add_row(f, image="images/4.nii.gz", label="labels/1.nii.gz", id="1", patient="another"),
    ),
    BadInput(
        "same image twice",
        ("dataset.json training[4]: has the same image as training[1]", "remove one"),
        prepare=lambda f: add_row(f, image="images/1.nii.gz", label="labels/1.nii.gz", id="4", patient="another"),
    ),
    BadInput(
        "folds that split a patient",
        ("Toy/1: patient 'patient0' is in the folds 0 and 1", "same 'fold'"),
        prepare=lambda f: change_manifest(f, split_a_patient),
        config="finetune",
    ),
    BadInput(
        "no manifest",
        ("{}/cohort: has no dataset.json", "mtmed manifest"),
        prepare=lambda f: (f / "cohort" / "dataset.json").unlink(),
    ),
    BadInput("no cohort", ("{}/nowhere: no such file or folder", "check the path"), ("--dataset_dir", "{}/nowhere")),
)
OPTIONS = (
    BadInput("unknown option", ("epoch: unknown option (from the command line)", "'epochs'"), ("--epoch", "5")),
    BadInput(
        "unknown option of an overlay",
        ("learning_rates: unknown option", "overlay.json", "'learning_rate'"),
        ("+{}/overlay.json",),
        prepare=lambda f: write_json(f / "overlay.json", {"learning_rates": 0.1}),
    ),
    BadInput(
        "unknown option of an args file",
        ("pixels_per_clas: unknown option", "options.json", "'pixels_per_class'"),
        ("@{}/more.json",),
        prepare=lambda f: write_json(f / "more.json", {"pixels_per_clas": 5}),
    ),
    BadInput(
        "unknown argument of a component",
        ("train::trainer::max_epoch: unknown option", "did you mean 'epochs'"),
        ("--train#trainer#max_epoch", "5"),
    ),
    BadInput("unknown loss", ("losses: is ['lable']", "identity, label"), ("--losses", "['lable']")),
    BadInput("no loss", ("tasks: there is none", "name at least one loss"), ("--losses", "[]")),
    BadInput("no epochs", ("epochs", "0 iterations", "1 or more"), ("--epochs", "0")),
    BadInput("text for a number", ("learning_rate: is 'fast', not a number", "0.0001"), ("--learning_rate", "fast")),
    BadInput("number for a list", ("patch_size: is 32, not a list", "[48, 48, 32]"), ("--patch_size", "32")),
    BadInput("text for a switch", ("new: is 'maybe', not True or False",), ("--new", "maybe")),
    BadInput(
        "patch that the network does not take",
        ("img_size is [24, 24, 24]", "a multiple of 16"),
        ("--patch_size", "[24,24,24]"),
    ),
    BadInput("spacing of two axes", ("spacing: is [1, 1]", "three numbers"), ("--spacing", "[1,1]")),
    BadInput("negative rate", ("train::optimizer: ValueError: Invalid learning rate: -1",), ("--learning_rate", "-1")),
    BadInput("probability above 1", ("foreground_probability: is 2", "0 to 1"), ("--foreground_probability", "2")),
    BadInput("no GPU", ("device: is cuda, but there is no GPU here", "use --device cpu"), ("--device", "cuda")),
    BadInput("no device", ("device: is 'gpu', which is no device", "use cpu, cuda"), ("--device", "gpu")),
    BadInput(
        "dangling reference",
        ("learning_rate: refers to @rate, which is not in the config", "correct the reference"),
        ("--learning_rate", "@rate"),
    ),
    BadInput(
        "reference that is evaluated before the first item of run",
        ("weights: refers to @rate, which is not in the config", "correct the reference"),
        ("--weights", "@rate"),
    ),
    BadInput(
        "expression that fails",
        ("learning_rate: ZeroDivisionError: ", "correct the expression"),
        ("--learning_rate", "$1 / 0"),
    ),
    BadInput(
        "class that is not there",
        ("train::views: there is no class or function mtmed.transforms.View", "correct _target_"),
        ("--train#views#_target_", "mtmed.transforms.View"),
    ),
    BadInput("fold that is not there", ("fold: is 9", "use one of 0, 1"), ("--fold", "9"), config="finetune"),
    BadInput(
        "output folder that cannot be written",
        ("output_dir: {}/options.json/out cannot be written", "--output_dir"),
        ("--output_dir", "{}/options.json/out"),
    ),
    BadInput(
        "store that cannot be written",
        ("{}/options.json/store: cannot be created", "choose another folder"),
        ("--store_dir", "{}/options.json/store"),
    ),
)
CHECKPOINTS = (
    BadInput(
        "fine-tuning another network",
        ("network_def::feature_size: is 4, but {}/weights.pt was trained with 8", "same scale"),
        ("--pretrained", "{}/weights.pt"),
        weights_file(lambda path: save_encoder(path, network(feature_size=8), SETTINGS)),
        "finetune",
    ),
    BadInput(
        "fine-tuning without an encoder",
        ("{}/weights.pt: only 0 of the encoder's 176 tensors fit", "pass the encoder.pt"),
        ("--pretrained", "{}/weights.pt"),
        weights_file(
            lambda path: torch.save({"model": {}, "network_def": network().definition, "settings": SETTINGS}, path)
        ),
        "finetune",
    ),
    BadInput(
        "fine-tuning a file of another program",
        ("{}/weights.pt: has no model, network_def, settings", "pass model.pt or encoder.pt"),
        ("--pretrained", "{}/weights.pt"),
        weights_file(lambda path: torch.save({"state_dict": {}}, path)),
        "finetune",
    ),
    BadInput(
        "inference with an encoder",
        ("{}/weights.pt: holds 176 of the network's 194 tensors", "pass model.pt of a fine-tuning run"),
        ("--checkpoint", "{}/weights.pt"),
        weights_file(lambda path: save_encoder(path, network(), SETTINGS)),
        "inference",
    ),
    BadInput(
        "inference with a truncated file",
        ("{}/weights.pt: is damaged or not a weights file", "copy it again"),
        ("--checkpoint", "{}/weights.pt"),
        truncated_weights,
        "inference",
    ),
    BadInput("inference without weights", ("checkpoint: is not given", "pass --checkpoint"), config="inference"),
    BadInput(
        "evaluation without weights",
        ("checkpoint: is not given", "pass --checkpoint"),
        ("--folds", "2"),
        config="evaluate",
    ),
    BadInput(
        "inference on a missing image",
        ("{}/nothing.nii.gz: no such file or folder", "pass --input"),
        ("--checkpoint", "{}/weights.pt", "--input", "{}/nothing.nii.gz"),
        weights_file(lambda path: save_network(path, network(), SETTINGS)),
        "inference",
    ),
)
BAD_INPUTS = DATA + MANIFEST + OPTIONS + CHECKPOINTS


def assert_said(line: str, bad: BadInput, folder: Path) -> None:
    for piece in bad.said:
        assert piece.replace("{}", str(folder)) in line


def assert_nothing_half_written(bad: BadInput, folder: Path) -> None:
    written = {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*")}
    assert written <= bad.files
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
@pytest.mark.usefixtures("program_state")
def test_bad_input_ends_with_one_line_before_training(bad: BadInput, folder: Path) -> None:
    bad.prepare(folder)
    with pytest.raises((RuntimeError, ValueError, ModuleNotFoundError)) as caught:
        fire.Fire(run, command=command(folder, bad.config, *bad.arguments))
    found = mendable(caught.value)
    assert found is not None, caught.value
    assert_said(str(found), bad, folder)
    assert "\n" not in str(found)
    assert_nothing_half_written(bad, folder)


@pytest.mark.slow
@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_leaves_one_clear_line_on_the_terminal(bad: BadInput, folder: Path) -> None:
    bad.prepare(folder)
    status, errors, _ = run_program(command(folder, bad.config, *bad.arguments))
    assert status == 1
    assert len(errors) == 1, "\n".join(errors)
    assert errors[0].startswith("error: ")
    assert_said(errors[0], bad, folder)
    assert_nothing_half_written(bad, folder)


@pytest.mark.usefixtures("program_state")
def test_a_full_disk_leaves_the_last_checkpoint(folder: Path) -> None:
    fire.Fire(run, command=command(folder, "pretrain"))
    checkpoint = folder / "out" / "checkpoint.pt"
    before = checkpoint.read_bytes()

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 4096,) * 2)

    status, errors, _ = run_program(command(folder, "pretrain", "--epochs", "2"), preexec_fn=limit_files)
    assert status == 1
    assert len(errors) == 1, "\n".join(errors)
    assert f"{checkpoint}: no space left on the disk; free space" in errors[0]
    assert checkpoint.read_bytes() == before
    assert torch.load(checkpoint, weights_only=True)["iteration"] == 1
    assert not list(folder.rglob("*.tmp"))


def test_check_lists_all_problems_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / image(0)).unlink()
    damage_checksum(folder / image(1))
    rewrite(folder / image(2), with_voxel(np.nan))
    rewrite(folder / label(2), lambda data: data * 5)
    rewrite(folder / label(3), lambda data: data[:30])
    assert main(["check", str(folder / "cohort")]) == 1
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 5
    for part in ("images/0", "images/1", "images/2", "labels/2", "labels/3"):
        assert sum(line.startswith(f"{folder}/cohort/{part}.nii.gz: ") for line in lines) == 1
    assert "5 errors" in said.out


@pytest.mark.parametrize("bad", DATA, ids=lambda bad: bad.name)
def test_check_says_what_training_says(bad: BadInput, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad.prepare(folder)
    assert main(["check", str(folder / "cohort")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert_said(line, bad, folder)
