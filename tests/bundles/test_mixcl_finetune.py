"""Fine-tuning: from the pre-trained encoder or from scratch, the network always the checkpoint's own."""

import csv
import json
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from running import run_in_process
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.networks import load_network
from mtmed.networks.weights import load_checkpoint, load_weights


@pytest.fixture(scope="module")
def finetuned(pretrained, options, tmp_path_factory):
    """Folder of a fine-tuning run that took its encoder from the pre-training run."""
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    given = options("finetune", output_dir=str(folder), pretrained=str(pretrained / "encoder.pt"), val_interval=1)
    return run_in_process("finetune", given)


def test_transfer_is_reported_in_tensors(finetuned, pretrained):
    encoder = load_weights(pretrained / "encoder.pt")["model"]
    log = (finetuned / "log.txt").read_text()
    assert f"encoder: {len(encoder)} of {len(encoder)} tensors transferred" in log
    assert (
        f"Next: python -m monai.bundle run --config_file bundles/mixcl/inference.json --checkpoint {finetuned}" in log
    )


def test_network_and_its_scale_are_those_of_the_file(finetuned):
    network, settings = load_network(finetuned / "model.pt")
    assert network.level_channels[0] == 4
    assert load_weights(finetuned / "model.pt")["network_def"]["out_channels"] == 3
    assert settings["label_names"] == {"0": "background", "1": "liver", "2": "spleen"}
    assert settings["patch_size"] == [32, 32, 16]


def test_training_starts_from_the_encoder_that_was_given(pretrained, run_bundle):
    encoder = load_weights(pretrained / "encoder.pt")["model"]
    folder = run_bundle(
        "finetune", pretrained=str(pretrained / "encoder.pt"), epochs=1, learning_rate=0.0, val_interval=1
    )
    network, _ = load_network(folder / "model.pt")
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in encoder.items())


def test_validation_decides_the_best_and_is_shown(finetuned):
    checkpoint = load_checkpoint(finetuned / "checkpoint.pt")
    events = EventAccumulator(str(finetuned)).Reload()
    dice = {event.step: event.value for event in events.Scalars("validation/mean_dice")}
    assert set(dice) == {2, 4}
    assert checkpoint["best_metric"] == pytest.approx(max(dice.values()))
    organs = [events.Scalars(f"validation/mean_dice/{name}")[-1].value for name in ("liver", "spleen")]
    assert np.mean(organs) == pytest.approx(dice[4], rel=1e-5)
    assert {"patch/image", "patch/label", "prediction", "validation/overlay"} <= set(events.Tags()["images"])
    assert [event.step for event in events.Images("validation/overlay")] == [2, 4]
    log = (finetuned / "log.txt").read_text()
    assert f"| mean_dice {dice[4]:.4g}" in log
    # each validation is told once
    assert "Got new best metric" not in log
    assert "Engine run" not in log


def test_from_scratch_works_with_the_configs_own_network(run_bundle):
    folder = run_bundle("finetune", epochs=1, val_interval=1)
    rows = list(csv.DictReader((folder / "losses.csv").open(newline="")))
    assert list(rows[0]) == ["iteration", "loss", "segmentation", "learning_rate"]
    assert "from scratch" in (folder / "log.txt").read_text()
    assert load_weights(folder / "model.pt")["network_def"]["feature_size"] == 4


def test_encoder_of_another_width_is_refused(pretrained, refusal, tmp_path):
    text = refusal("finetune", pretrained=str(pretrained / "encoder.pt"), **{"network_def#feature_size": 8})
    assert text.startswith("network_def::feature_size: is 8, but")
    assert "was trained with 4" in text
    # a file whose tensors are not what its definition says
    content = load_weights(pretrained / "encoder.pt")
    content["network_def"]["hidden_size"] = 36
    torch.save(content, tmp_path / "wrong.pt")
    text = refusal("finetune", pretrained=str(tmp_path / "wrong.pt"))
    assert "of the encoder's" in text
    assert "tensors fit" in text


def test_paper_scale_is_refused_for_an_encoder_of_another_scale(pretrained, refusal):
    given = {"pretrained": str(pretrained / "encoder.pt"), "epochs": 1, "iterations_per_epoch": 1}
    assert "was trained with 4" in refusal("finetune", "paper", **given)


@pytest.mark.parametrize("left_out", ["vit.norm.weight", "encoder2.blocks.0.0.conv.weight"])
def test_encoder_that_does_not_arrive_whole_is_refused(left_out, pretrained, refusal, tmp_path):
    content = load_weights(pretrained / "encoder.pt")
    del content["model"][left_out]
    torch.save(content, tmp_path / "part.pt")
    assert f"({left_out}: missing" in refusal("finetune", pretrained=str(tmp_path / "part.pt"))


def test_loss_that_is_not_finite_names_the_cases(refusal):
    text = refusal("finetune", learning_rate=1e9)
    assert text.startswith("iteration 2: the loss is not finite (segmentation")
    assert "Toy_Organs/Toy_Organs_" in text


def test_other_length_of_an_epoch_is_refused_when_a_run_goes_on(run_bundle, refusal):
    run_bundle("finetune", epochs=1, iterations_per_epoch=3)
    assert "another iterations_per_epoch (3 there, 4 now)" in refusal("finetune", epochs=2, iterations_per_epoch=4)


def test_missing_encoder_is_named(refusal, tmp_path):
    assert "no such file" in refusal("finetune", pretrained=str(tmp_path / "absent.pt"))


def test_settings_of_the_paper_shrunk_go_from_pre_training_to_a_segmented_scan(run_bundle, cohorts, tmp_path):
    """Everything of paper.json but its size; what follows knows the network from the file alone."""
    small = {"epochs": 1, "iterations_per_epoch": 2, "spacing": [4.0, 4.0, 5.0], "patch_size": [32, 32, 16]}
    small |= {"network_def#feature_size": 2, "network_def#hidden_size": 12, "network_def#num_heads": 3}
    small |= {"network_def#mlp_dim": 36}
    first = run_bundle("pretrain", "paper", output_dir=str(tmp_path / "first"), **small)
    assert json.loads((first / "config.json").read_text())["batch_size"].startswith("$1 if")
    second = run_bundle(
        "finetune",
        output_dir=str(tmp_path / "second"),
        pretrained=str(first / "encoder.pt"),
        epochs=1,
        val_interval=1,
    )
    definition = load_weights(second / "model.pt")["network_def"]
    assert (definition["feature_size"], definition["hidden_size"], definition["num_heads"]) == (2, 12, 3)
    scan = f"{cohorts['organs']}/imagesTr/Toy_Organs_0.nii.gz"
    given = {
        "checkpoint": str(second / "model.pt"),
        "input": scan,
        "output_dir": str(tmp_path / "out"),
        "device": "cpu",
    }
    written = nib.load(run_in_process("inference", given) / "Toy_Organs_0_seg.nii.gz")
    assert written.shape == nib.load(scan).shape
    assert set(np.unique(np.asanyarray(written.dataobj))) <= {0, 1, 2}


def test_paper_overlay_has_the_published_settings(config):
    parser = ConfigParser()
    parser.read_config(config("finetune", "paper"))
    parser.update({"output_dir": "unused", "device": "cpu", "label_names": {0: "background", 1: "spleen"}})
    value = parser.get_parsed_content
    assert value("epochs") * value("iterations_per_epoch") == 2000
    assert value("batch_size") == 2
    assert (value("learning_rate"), value("weight_decay")) == (1e-4, 1e-5)
    assert (value("spacing"), value("window")) == ([1.5, 1.5, 2.0], [-150.0, 250.0])
    assert value("patch_size") == [96, 96, 96]
    assert value("folds") == 5
    assert value("augmentation_probability") == 0.2
    network = {name: value(f"network_def#{name}") for name in ("feature_size", "hidden_size", "mlp_dim", "num_heads")}
    assert network == {"feature_size": 16, "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12}
    loss = value("train#tasks#segmentation#loss")
    assert type(loss).__name__ == "DiceCELoss"
    views = value("train#views")
    found = {type(op).__name__: op.probability for op in (*views.geometry.operations, *views.intensity)}
    assert found == {"Rotate90": 0.2, "Flip": 0.2, "IntensityScale": 0.2, "IntensityShift": 0.2}


# option -> (value, entry of the config, where in the entry it must arrive)
KNOBS = {
    "epochs": (3, "train#trainer", lambda t: t.state.max_epochs),
    "iterations_per_epoch": (5, "train#trainer", lambda t: t.state.epoch_length),
    "batch_size": (3, "train#dataloader", lambda loader: loader.batch_sampler.batch_size),
    "learning_rate": (0.003, "train#optimizer", lambda o: o.param_groups[0]["lr"]),
    "weight_decay": (0.004, "train#optimizer", lambda o: o.param_groups[0]["weight_decay"]),
    "val_interval": (
        2,
        "train#handlers",
        lambda hs: next(h.interval for h in hs if type(h).__name__ == "ValidationHandler"),
    ),
    "augmentation_probability": (0.4, "train#views", lambda v: v.geometry.operations[0].probability),
    "flip_axes": ([1], "train#views", lambda v: list(v.geometry.operations[1].axes)),
    "foreground_probability": (0.7, "train#draw", lambda d: d.foreground_probability),
    "overlap": (0.25, "validate#inferer", lambda i: i.overlap),
    "fold": (1, "split", lambda s: len(s.validation) and 1),
    "precision": ("bfloat16", "train#trainer", lambda t: str(t.dtype).removeprefix("torch.")),
}


def test_every_knob_reaches_its_object(config, options, tmp_path):
    parser = ConfigParser()
    parser.read_config(config("finetune"))
    overrides = {name: value for name, (value, _, _) in KNOBS.items()}
    parser.update(options("finetune", output_dir=str(tmp_path), seed=4, **overrides))
    for name, (value, entry, arrived) in KNOBS.items():
        assert arrived(parser.get_parsed_content(entry)) == value, name
    assert parser.get_parsed_content("train#trainer").seed == 4
    assert parser.get_parsed_content("train#dataset").seed == 4


def test_folds_and_fractions_choose_the_cases(config, options, tmp_path):
    def split(**more):
        parser = ConfigParser()
        parser.read_config(config("finetune"))
        parser.update(options("finetune", output_dir=str(tmp_path), **more))
        found = parser.get_parsed_content("split")
        return {case.id for case in found.training}, {case.id for case in found.validation}

    first, second = split(fold=0), split(fold=1)
    assert first[1].isdisjoint(second[1])
    assert len(first[1] | second[1]) == 4
    assert first[0].isdisjoint(first[1])
    assert split(fraction=50)[0] < first[0]


def test_every_loss_is_logged_without_errors_or_warnings(finetuned):
    levels = [line.split()[2] for line in (finetuned / "log.txt").read_text().splitlines() if line[:2] == "20"]
    assert set(levels) == {logging.getLevelName(logging.INFO)}
