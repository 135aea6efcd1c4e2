"""Weights files and checkpoints that are damaged, foreign or dangerous, given to the real command line."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from abdomen_rows import evaluate, finetune, inference, pretrain, spoil, trained
from bundle_rows import gi_tract, two_stage
from catalogue import CHECKED, RUN, Prepare, Row, assert_refused, assert_works, bundle, parametrized
from gi_tract_inputs import several as gi_several
from gi_tract_inputs import trained as gi_trained
from mixcl_inputs import SETTINGS, network
from two_stage_inputs import GOOD as X_RAYS

from mtmed.networks import save_encoder, save_network

INFERENCE = inference()
EVALUATE = evaluate()
FINETUNE = finetune(pretrained="{}/weights.pt")
PRETRAIN = pretrain()
WEIGHTS = "{}/weights.pt: "
COPY = "copy it again or train again"
DAMAGED = (f"{WEIGHTS}is damaged or not a weights file", COPY)
# before the checkpoint is looked at, the folder is not touched
CHECKPOINT = frozenset({"checkpoint.pt"})


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def weights(change: Callable[[Path], Any]) -> Prepare:
    """Abdomens, and the file of a network with something done to it."""
    return trained(lambda folder: change(folder / "weights.pt"))


def encoder(change: Callable[[Path], Any] = lambda path: None, **changed: Any) -> Prepare:
    """Abdomens, and the file of an encoder with something done to it."""

    def prepare(folder: Path) -> None:
        save_encoder(folder / "weights.pt", network(**changed), SETTINGS)
        change(folder / "weights.pt")

    return spoil(prepare)


def checkpoint(change: Callable[[Path], Any]) -> Prepare:
    """Abdomens, and a run's folder with a checkpoint with something done to it."""

    def prepare(folder: Path) -> None:
        (folder / "out").mkdir()
        path = folder / "out" / "checkpoint.pt"
        torch.save({"model": {"w": torch.zeros(500)}, "iteration": 1, "epoch": 1, "stopped": False}, path)
        change(path)

    return spoil(prepare)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    """One bit in the middle of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 128 + largest.file_size // 2] ^= 1
    path.write_bytes(content)


def flip_the_program(path: Path) -> None:
    """One bit in the record that says which tensors there are."""
    content = bytearray(path.read_bytes())
    content[content.index(b"network_def") + 2] ^= 1
    path.write_bytes(content)


def of_content(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    """Save the file again with other content."""

    def again(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        changed = change(content)
        torch.save(content if changed is None else changed, path)

    return again


def compress(path: Path) -> None:
    with zipfile.ZipFile(path) as whole:
        records = {record.filename: whole.read(record) for record in whole.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in records.items():
            packed.writestr(name, content)


def wrapped(content: dict[str, Any]) -> None:
    content["model"] = {f"module.{name}": value for name, value in content["model"].items()}


def with_value(value: float) -> Callable[[Path], Any]:
    """Fill the first bias of the file."""

    def fill(content: dict[str, Any]) -> None:
        name = next(name for name in content["model"] if name.endswith(".bias"))
        content["model"][name].fill_(value)

    return of_content(fill)


def of_another_shape(content: dict[str, Any]) -> None:
    content["network_def"]["hidden_size"] = 24


MODELS = (
    Row("no weights file", INFERENCE,
        (f"{WEIGHTS}no such file; pass the path of a weights file",), spoil(), False, RUN),
    Row("folder in place of weights", INFERENCE,
        (f"{WEIGHTS}no such file",), spoil(lambda f: (f / "weights.pt").mkdir())),
    Row("empty weights file", INFERENCE, (f"{WEIGHTS}is empty; {COPY}",), weights(lambda path: path.write_bytes(b""))),
    Row("weights file cut in half", INFERENCE, DAMAGED, weights(cut)),
    Row("weights file without its last byte", INFERENCE, DAMAGED, weights(cut_the_end)),
    Row("one bit of a weight flipped", INFERENCE, (f"{WEIGHTS}is damaged: the checksum of its record data/", COPY),
        weights(flip)),
    Row("one bit of a weight flipped, evaluation", EVALUATE, (f"{WEIGHTS}is damaged: the checksum of its record", COPY),
        weights(flip)),
    Row("one bit of the names flipped", INFERENCE, (f"{WEIGHTS}is damaged: the checksum of its record data.pkl", COPY),
        weights(flip_the_program)),
    Row("page of a web site", INFERENCE, DAMAGED, weights(lambda path: path.write_text("<!DOCTYPE html><html>" * 9))),
    Row("pickled network", INFERENCE, (f"{WEIGHTS}holds more than tensors and plain values; use a file that mtmed",),
        weights(lambda path: torch.save(network(), path))),
    Row("file that would run code", INFERENCE, (f"{WEIGHTS}holds more than tensors and plain values; use a file that",),
        weights(lambda path: torch.save({"model": Trap()}, path))),
    Row("plain pickle", INFERENCE, DAMAGED, weights(lambda path: path.write_bytes(pickle.dumps({"model": Trap()})))),
    Row("compressed weights file", INFERENCE, (f"{WEIGHTS}is damaged or not a weights file (a record is compressed)",),
        weights(compress)),
    Row("file of another program", INFERENCE, (f"{WEIGHTS}has no model, network_def, settings; pass model.pt",),
        weights(lambda path: torch.save({"state_dict": {}}, path))),
    Row("weights that are no dictionary", INFERENCE, (f"{WEIGHTS}its model is no dictionary; use a file that mtmed",),
        weights(of_content(lambda content: {**content, "model": [1]}))),
    Row("weight that is no tensor", INFERENCE, (f"{WEIGHTS}weight out.conv.conv.bias is no dense tensor of num",),
        weights(of_content(lambda content: content["model"].update({"out.conv.conv.bias": 3})))),
    Row("weights of another architecture", INFERENCE, (f"{WEIGHTS}only ", " tensors of its network_def fit (", "mtmed"),
        weights(of_content(of_another_shape))),
    Row("encoder in place of a network", INFERENCE,
        (f"{WEIGHTS}holds 176 of the network's 194 tensors", "pass model.pt"),
        encoder()),
    Row("NaN among the weights", INFERENCE, (f"{WEIGHTS}weight ", " is not finite; use an earlier",),
        weights(with_value(float("nan")))),
    Row("infinite weight", EVALUATE, (f"{WEIGHTS}weight ", " is not finite; use an earlier checkpoint",),
        weights(with_value(float("inf")))),
    Row("program in place of a network", INFERENCE, (f"{WEIGHTS}_target_ is 'subprocess.run', which is not a network",),
        weights(of_content(lambda content: content["network_def"].update(_target_="subprocess.run")))),
    Row("argument that the network does not take", INFERENCE, (WEIGHTS, "wings"),
        weights(of_content(lambda content: content["network_def"].update(wings=2)))),
    Row("weights without a setting", INFERENCE, (f"{WEIGHTS}does not say spacing, ", "pass model.pt of"),
        weights(of_content(lambda content: content["settings"].pop("spacing") and None))),
    Row("weights of another bundle", gi_tract("evaluate", checkpoint="{}/model.pt"),
        ("{}/model.pt: does not say organs, image_size, normalise_per, ", "pass model.pt of a training run of this"),
        gi_trained(keep=["label_names", "modalities"])),
    Row("ensemble with a damaged member",
        gi_tract("inference", checkpoint="{}/model.pt", ensemble_with=["{}/other.pt"]),
        ("{}/other.pt: is damaged: the checksum of its record",),
        gi_several(gi_trained(), gi_trained("other.pt"), lambda f: flip(f / "other.pt"))),
    Row("no checkpoint given", bundle("mixcl", "inference", {"input": "{}/cohort/images"}),
        ("checkpoint: is not given; pass --checkpoint",), spoil()),
)  # fmt: skip
ENCODERS = (
    Row("encoder of another width", finetune(pretrained="{}/weights.pt", **{"network_def#feature_size": 4}),
        ("network_def::feature_size: is 4, but {}/weights.pt was trained with 8", "same scale"),
        encoder(feature_size=8)),
    Row("encoder without its tensors", FINETUNE, (f"{WEIGHTS}only 0 of the encoder's 176 tensors fit", "encoder.pt"),
        encoder(of_content(lambda content: content["model"].clear()))),
    Row("encoder that lacks a tensor", FINETUNE, (f"{WEIGHTS}only 175 of the encoder's 176 tensors fit", "missing in"),
        encoder(of_content(lambda content: content["model"].popitem() and None))),
    Row("one bit of an encoder flipped", FINETUNE, (f"{WEIGHTS}is damaged: the checksum of its record data/", COPY),
        encoder(flip)),
    Row("encoder cut in half", FINETUNE, DAMAGED, encoder(cut)),
    Row("NaN in an encoder", FINETUNE, (WEIGHTS, " is not finite; use an earlier checkpoint"),
        encoder(with_value(float("nan")))),
    Row("ImageNet weights that are damaged", gi_tract(network="big_unet", imagenet_weights="{}/resnet.pth"),
        ("{}/resnet.pth: is damaged: the checksum of its record data/",),
        gi_several(gi_trained(), lambda f: (torch.save({"w": torch.zeros(900)}, f / "resnet.pth"),
        flip(f / "resnet.pth")))),
    Row("teacher that is not there", two_stage("distill", teachers=["{}/model.pt"]),
        ("{}/model.pt: no such teacher; repeat the run that makes it",), X_RAYS),
)  # fmt: skip
CHECKPOINTS = (
    Row("checkpoint cut in half", PRETRAIN, ("{}/out/checkpoint.pt: is damaged or not a weights file",),
        checkpoint(cut), False, CHECKPOINT),
    Row("empty checkpoint", PRETRAIN, ("{}/out/checkpoint.pt: is empty",),
        checkpoint(lambda path: path.write_bytes(b"")), False, CHECKPOINT),
    Row("one bit of a checkpoint flipped", PRETRAIN, ("{}/out/checkpoint.pt: is damaged: the checksum of its record",),
        checkpoint(flip), False, CHECKPOINT),
    Row("checkpoint that would run code", PRETRAIN, ("{}/out/checkpoint.pt: holds more than tensors and plain values",),
        checkpoint(lambda path: torch.save({"model": Trap()}, path)), False, CHECKPOINT),
    Row("weights file in place of a checkpoint", PRETRAIN,
        ("{}/out/checkpoint.pt: is no checkpoint of a run", "--new true"),
        checkpoint(lambda path: save_network(path, network(), SETTINGS)), False, CHECKPOINT),
    Row("checkpoint of another network", pretrain(epochs=3), ("{}/out/checkpoint.pt: holds no ", "--new true"),
        checkpoint(lambda path: None), False, CHECKED | {"*"}),
)  # fmt: skip
SAID_PREFIX = "Notice: the names of the weights in {}/weights.pt begin with module., which is taken off"
LEGAL = (
    Row("names that several processes left", INFERENCE, (SAID_PREFIX,), weights(of_content(wrapped)), True,
        frozenset({"1*.nii.gz"})),
    Row("encoder with names that several processes left", FINETUNE, (SAID_PREFIX, "176 of 176 tensors transferred"),
        encoder(of_content(wrapped)), True, frozenset({"model.pt"})),
    Row("weights that are more than the network's", INFERENCE, (),
        weights(of_content(lambda content: content.update(more="plain"))), True, frozenset({"1*.nii.gz"})),
)  # fmt: skip
REFUSED = (*MODELS, *ENCODERS, *CHECKPOINTS)


@pytest.mark.parametrize(("row", "workers"), parametrized(REFUSED))
def test_wrong_weights_are_refused(row: Row, workers: int, tmp_path: Path) -> None:
    assert_refused(row, tmp_path, workers)
    assert not list(tmp_path.rglob("sprung"))


@pytest.mark.parametrize(("row", "workers"), parametrized(LEGAL))
def test_odd_weights_work(row: Row, workers: int, tmp_path: Path) -> None:
    assert_works(row, tmp_path, workers)
