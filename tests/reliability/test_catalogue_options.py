"""Options that cannot be meant, and folders that cannot be used, given to the real command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from abdomen_rows import CHECK, INFERENCE, PRETRAIN, evaluate, finetune, inference, pretrain, spoil, trained
from bundle_rows import gi_tract, ms_lesion, siamese_kidney, two_stage
from catalogue import (
    CHECKED,
    NOTHING,
    ROOT,
    RUN,
    Prepare,
    Row,
    assert_refused,
    assert_works,
    mtmed,
    parametrized,
    run_row,
)
from gi_tract_inputs import GOOD as SLICES
from mixcl_inputs import SETTINGS, image, network, rewrite, truncate, with_voxel
from ms_lesion_runs import write_brains
from siamese_kidney_inputs import cohort
from two_stage_inputs import GOOD as X_RAYS

from mtmed.networks import save_network

ABDOMENS = spoil()


def brains(folder: Path) -> None:
    """Three patients of two visits."""
    write_brains(folder / "cohort", patients=3, visits=2)


NO_COHORT: Prepare = lambda folder: None  # noqa: E731
KIDNEYS = cohort(cases=6)
LOOKED_UP: tuple[None] = (None,)  # commands without workers


def with_overlay(words: tuple[str, ...], file: str) -> tuple[str, ...]:
    """A command with a further config file."""
    place = words.index("--config_file") + 1
    return (*words[:place], str([words[place], file]), *words[place + 1 :])


def alone_with_multi_gpu(name: str, words: tuple[str, ...], prepare: Prepare) -> Row:
    """A process that torchrun did not start."""
    files = with_overlay(words, str(ROOT / "bundles" / name / "multi_gpu.json"))
    said = ("RANK: is not set", "start it by torchrun --nproc_per_node=2 ", "leave multi_gpu.json out")
    return said_at_once(f"several processes without torchrun, {name}", files, *said, prepare=prepare)


def overlay(text: str) -> Prepare:
    return spoil(lambda folder: (folder / "overlay.json").write_text(text))


def said_at_once(name: str, words: tuple[str, ...], *said: str, prepare: Prepare = ABDOMENS) -> Row:
    """An option that is refused before any data are looked at and anything is written."""
    return Row(name, words, said, prepare, False, NOTHING)


MISSPELT = (
    said_at_once("misspelt option of mixcl", pretrain(max_epoch=3),
        "max_epoch: unknown option (from the command line)"),
    said_at_once("letter left out, mixcl", pretrain(epoch=3), "epoch: unknown option", "did you mean 'epochs'?"),
    said_at_once("letter left out, MS lesions", ms_lesion(varant="single"), "did you mean 'variant'?",
        prepare=brains),
    said_at_once("letters swapped, kidneys", siamese_kidney(regoin_mm=[1, 1, 1]), "did you mean 'region_mm'?",
        prepare=KIDNEYS),
    said_at_once("letter too many, GI tract", gi_tract(auxilliary="contrast"), "did you mean 'auxiliary'?",
        prepare=SLICES),
    said_at_once("letter left out, two stages", two_stage(tsk="jigsaw"), "did you mean 'task'?", prepare=X_RAYS),
    said_at_once("letter left out, distillation", two_stage("distill", techers=[]), "did you mean 'teachers'?",
        prepare=X_RAYS),
    said_at_once("letter left out, inference", inference(inut="x"), "did you mean 'input'?", prepare=trained()),
    said_at_once("letter left out, evaluation", evaluate(chekpoint="x"), "did you mean 'checkpoint'?",
        prepare=trained()),
    said_at_once("misspelt argument of the network", gi_tract(**{"network_defs#small_unet#base_chanels": 8}),
        "network_defs::small_unet::base_chanels: unknown option", "base_channels", prepare=SLICES),
    said_at_once("misspelt argument of the trainer", pretrain(**{"train#trainer#max_epoch": 5}),
        "train::trainer::max_epoch: unknown option", "did you mean 'epochs'"),
    said_at_once("option of another bundle", pretrain(teachers=["x"]), "teachers: unknown option", "pretrain.json"),
    Row("misspelt key of an overlay", with_overlay(PRETRAIN, "{}/overlay.json"),
        ("learning_rates: unknown option (from {}/overlay.json); did you mean 'learning_rate'?",),
        overlay('{"learning_rates": 0.1}'), False, NOTHING),
)  # fmt: skip
VALUES = (
    said_at_once("ten in letters", pretrain(epochs="ten"), "epochs: is 'ten', not a number", "default is"),
    said_at_once("number for a list", pretrain(patch_size=32), "patch_size: is 32, not a list", "[48, 48, 32]"),
    said_at_once("word for a switch", pretrain(new="maybe"), "new: is 'maybe', not True or False"),
    said_at_once("list of texts for numbers", pretrain(patch_size="['a','b','c']"), "not a list of numbers"),
    said_at_once("no epochs", pretrain(epochs=0), "epochs", "give whole numbers of 1 or more"),
    said_at_once("half an epoch", pretrain(epochs=0.5), "epochs", "give whole numbers of 1 or more"),
    said_at_once("negative iterations", pretrain(iterations_per_epoch=-4), "epochs", "give whole numbers of 1 or more"),
    said_at_once("no GPU", pretrain(device="cuda"), "device: is cuda, but there is no GPU here; use --device cpu"),
    said_at_once("no such device", pretrain(device="gpu"), "device: is 'gpu', which is no device; use cpu, cuda"),
    Row("patch of two axes", pretrain(patch_size=[32, 32]), ("patch_size", "; "), ABDOMENS),
    Row("patch that the network does not take", pretrain(patch_size=[33, 32, 32]),
        ("img_size is [33, 32, 32]", "a multiple of 16"), ABDOMENS, False, RUN),
    Row("spacing of two axes", pretrain(spacing=[1, 1]), ("spacing: is [1, 1]", "three numbers"), ABDOMENS),
    Row("spacing of 0", pretrain(spacing=[1, 1, 0]), ("spacing: is [1, 1, 0]", "; "), ABDOMENS),
    Row("negative learning rate", pretrain(learning_rate=-1), ("Invalid learning rate: -1",), ABDOMENS),
    Row("probability above 1", pretrain(foreground_probability=2),
        ("foreground_probability: is 2", "0 to 1"), ABDOMENS, False, RUN),
    Row("empty batch", pretrain(batch_size=0), ("batch_size", "; "), ABDOMENS),
    Row("word that the option does not know", pretrain(losses=["lable"]), ("losses: is ['lable']", "identity, label"),
        ABDOMENS, False, RUN),
    Row("fold that is not there", finetune(fold=9), ("fold: is 9", "use one of 0, 1"), ABDOMENS, False, RUN),
    Row("more classes than the labels have", finetune(**{"network_def#out_channels": 9}),
        ("network_def::out_channels: is 9, the data have 3; pass --network_def::out_channels 3",), ABDOMENS),
    Row("more classes than organs", gi_tract(**{"network_defs#small_unet#out_channels": 9}),
        ("out_channels: is 9, the data have 3",), SLICES),
)  # fmt: skip
CONFIGS = (
    Row("reference to nothing", pretrain(learning_rate="@rate"),
        ("learning_rate: refers to @rate, which is not in the config; correct the reference",), ABDOMENS),
    Row("expression that fails", pretrain(learning_rate="$1 / 0"),
        ("learning_rate: ZeroDivisionError: ", "correct the expression"), ABDOMENS),
    Row("class that is not there", pretrain(**{"train#views#_target_": "mtmed.transforms.View"}),
        ("train::views: there is no class or function mtmed.transforms.View; correct _target_",), ABDOMENS),
    alone_with_multi_gpu("mixcl", PRETRAIN, ABDOMENS),
    alone_with_multi_gpu("gi_tract", gi_tract(), SLICES),
    Row("key that stands twice", with_overlay(PRETRAIN, "{}/overlay.json"),
        ("{}/overlay.json: epochs: the key stands twice", "remove one of the two"),
        overlay('{"epochs": 1, "epochs": 2}'), False, NOTHING),
    Row("no cohort", PRETRAIN, ("{}/cohort: no such file or folder", "check the path"), NO_COHORT, False, RUN),
)  # fmt: skip


def a_file_in_place_of(name: str) -> Prepare:
    """Abdomens, and a file where a folder is to be made."""

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not a folder")

    return spoil(prepare)


def same_base_names(folder: Path) -> None:
    """Two inputs of one name in different folders."""
    for number, case in ((0, "caseA"), (1, "caseB")):
        (folder / "cohort" / "scans" / case).mkdir(parents=True)
        (folder / image(number)).rename(folder / "cohort" / "scans" / case / "ct.nii.gz")


def same_paths_but_for_case(folder: Path) -> None:
    """Two inputs whose whole paths differ in capital letters only."""
    for number, name in ((0, "ct.nii.gz"), (1, "CT.nii.gz")):
        (folder / "cohort" / "scans").mkdir(exist_ok=True)
        (folder / image(number)).rename(folder / "cohort" / "scans" / name)


FOLDERS = (
    Row("output folder below a file", pretrain(output_dir="{}/file/out"),
        ("output_dir: {}/file/out cannot be written", "--output_dir"), a_file_in_place_of("file"), False, NOTHING),
    Row("output folder that is a file", PRETRAIN, ("output_dir: {}/out cannot be written", "--output_dir"),
        a_file_in_place_of("out"), False, NOTHING),
    Row("output folder of a prediction below a file", inference(output_dir="{}/file/out"), ("{}/file/out", "; "),
        trained(lambda f: (f / "file").write_text("not a folder")), False, NOTHING),
    Row("store below a file", pretrain(store_dir="{}/file/store"),
        ("{}/file/store: cannot be created", "another folder"),
        a_file_in_place_of("file"), False, CHECKED),
    Row("two inputs that differ in capitals only", inference(input="{}/cohort/scans"),
        ("would give the same output name as {}/cohort/scans/", "rename one of them"),
        trained(same_paths_but_for_case)),
    Row("input that is not there", inference(input="{}/nothing.nii.gz"),
        ("{}/nothing.nii.gz: no such file or folder", "pass --input"), trained()),
    Row("cohort to be checked that is not there", CHECK, ("{}/cohort: no such file or folder", "check the path"),
        NO_COHORT, False, NOTHING, LOOKED_UP),
    Row("study that is not there", mtmed("study", "{}/study.json"), ("{}/study.json", "; "), NO_COHORT, False,
        NOTHING, LOOKED_UP),
)  # fmt: skip
REFUSED = (*MISSPELT, *VALUES, *CONFIGS, *FOLDERS)
LEGAL = (
    Row("two inputs of one name", inference(input="{}/cohort/scans"), (), trained(same_base_names), True,
        frozenset({"*caseA*.nii.gz", "*caseB*.nii.gz"})),
    Row("expression in place of a number", pretrain(learning_rate="$1e-4 / 2"), (), ABDOMENS, True,
        frozenset({"encoder.pt"})),
)  # fmt: skip


@pytest.mark.parametrize(("row", "workers"), parametrized(REFUSED))
def test_what_cannot_be_meant_is_refused(row: Row, workers: int | None, tmp_path: Path) -> None:
    assert_refused(row, tmp_path, workers)


@pytest.mark.parametrize(("row", "workers"), parametrized(LEGAL))
def test_what_is_odd_but_meant_works(row: Row, workers: int, tmp_path: Path) -> None:
    assert_works(row, tmp_path, workers)


def three_hundred_and_one_labels(folder: Path) -> None:
    """A network that finds the last of 300 organs everywhere."""
    names = {str(value): f"organ {value}" if value else "background" for value in range(301)}
    many = network(out_channels=301)
    many.state_dict()["out.conv.conv.bias"][300] = 1e6
    save_network(folder / "weights.pt", many, {**SETTINGS, "label_names": names})


@pytest.mark.parametrize(
    ("row", "workers"),
    parametrized(
        [Row("label 300", INFERENCE, (), trained(three_hundred_and_one_labels), True, frozenset({"1*.nii.gz"}))]
    ),
)
def test_a_label_above_255_is_written_as_it_is(row: Row, workers: int, tmp_path: Path) -> None:
    assert_works(row, tmp_path, workers)
    written = nib.load(next((tmp_path / "out").glob("1*.nii.gz")))
    assert set(np.unique(np.asarray(written.dataobj)).tolist()) == {300}


IN_A_WORKER: tuple[tuple[str, Callable[[Path], Any]], ...] = (
    ("image that ends early", lambda folder: truncate(folder / image(2))),
    ("NaN in an image", lambda folder: rewrite(folder / image(2), with_voxel(np.nan))),
    ("image of two channels", lambda folder: rewrite(folder / image(2), lambda data: np.stack([data, data], -1))),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change"), IN_A_WORKER, ids=[name for name, _ in IN_A_WORKER])
def test_what_a_worker_finds_is_said_as_without_workers(
    name: str, change: Callable[[Path], Any], tmp_path: Path
) -> None:
    said = []
    for workers in (0, 2):
        # the same folder, so that paths are the same
        row = Row(name, inference(output_dir=f"{{}}/out{workers}"), prepare=trained(change))
        if not workers:
            row.prepare(tmp_path)
        done = run_row(row, tmp_path, workers)
        assert done.returncode == 1
        said.append(done.stderr.splitlines()[-1])
    assert said[0] == said[1]
    assert f"{tmp_path}/{image(2)}: " in said[0]
