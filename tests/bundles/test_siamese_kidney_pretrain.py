"""The pre-training of the kidney bundle as it stands, at a scale of seconds."""

import csv
import itertools
import json
import math
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from siamese_kidney_runs import HIDDEN, write_kidneys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.bundle import patient_digests
from mtmed.data import SideRegions, load_cohort, make_split
from mtmed.networks import build_network
from mtmed.networks.weights import load_checkpoint, load_weights
from mtmed.tasks import SameSide, SideEmbedding

ENCODER = ("stem.", "blocks.", "transitions.")


def table(path):
    return list(csv.DictReader(path.open(newline="")))


@pytest.fixture
def resolved(siamese_config, siamese_options, tmp_path):
    """The config with overlays and overrides; nothing is run."""

    def make(*overlays, stage="pretrain", tiny=True, **more):
        parser = ConfigParser()
        parser.read_config(siamese_config(stage, *overlays))
        given = {"output_dir": str(tmp_path / "run"), "device": "cpu", **more}
        parser.update(siamese_options(stage, **given) if tiny else given)
        return parser

    return make


def patients(cases):
    return {case.group for case in cases}


def test_run_leaves_everything_that_is_promised(pretrained_siamese):
    rows = table(pretrained_siamese / "losses.csv")
    assert list(rows[0]) == ["iteration", "loss", "same_side", "learning_rate"]
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    assert all(row["loss"] == row["same_side"] for row in rows)
    assert json.loads((pretrained_siamese / "data_check.json").read_text())["cases"] == 7
    assert (pretrained_siamese / "regions.png").read_bytes().startswith(b"\x89PNG")
    log = (pretrained_siamese / "log.txt").read_text().strip().splitlines()
    assert log[-1].endswith(
        f"Encoder: {pretrained_siamese}/encoder.pt, accuracy on held-out pairs: scores.csv beside it. Next: python -m "
        f"monai.bundle run --config_file bundles/siamese_kidney/train.json --pretrained {pretrained_siamese}/encoder.pt"
    )
    assert [path.name for path in pretrained_siamese.glob(".*")] == [".run.lock"]


def test_encoder_holds_the_encoder_and_how_it_was_fed(pretrained_siamese, kidneys):
    content = load_weights(pretrained_siamese / "encoder.pt")
    network = build_network(content["network_def"])
    assert set(content["model"]) == {name for name in network.state_dict() if name.startswith(ENCODER)}
    learnt = load_checkpoint(pretrained_siamese / "checkpoint.pt")["model"]
    assert all(torch.equal(learnt[f"network.{name}"], value) for name, value in content["model"].items())
    split = make_split(load_cohort(kidneys["data"]).cases, folds=3)
    names = ["kidney", "left kidney", "right kidney", "tumour", "tumor", "cancer", "cyst"]
    assert content["settings"] == {
        "modalities": ["CT"],
        "spacing": [8.0, 8.0, 10.0],
        "window": [-80.0, 300.0],
        "label_groups": {"kidney": names},
        "proxy": "masked",
        "labels_of": patient_digests(split.training),
        "split_key": "patient",
        "trained_on": patient_digests(split.training),
    }


def test_sides_are_told_case_by_case(pretrained_siamese):
    rows = {row["patient"]: row for row in table(pretrained_siamese / "sides.csv")}
    assert len(rows) == 7
    single = rows.pop("case_00002")
    assert (single["left"], single["right"] == "") == ("", False)
    assert single["remarks"] == "The left kidney is missing: no component of 10 ml or more is on its side."
    assert f"Toy_KiTS/case_00002: {single['remarks']}" in (pretrained_siamese / "log.txt").read_text()
    for row in rows.values():
        # left kidneys are longer
        lengths = [int(row[side].split(" x ")[2]) for side in ("left", "right")]
        assert lengths[0] > lengths[1] > 5
        assert (row["remarks"], row["left cropped"], row["right cropped"]) == ("", "False", "False")


def test_a_kidney_larger_than_its_region_is_cropped_and_named(resolved):
    parser = resolved(region_mm=[128.0, 128.0, 80.0])
    assert parser.get_parsed_content("box_size") == [16, 16, 8]
    volumes = parser.get_parsed_content("train#volumes")
    longest = max(high[2] - low[2] for low, high in (volumes[i].bounds("side", 1) for i in volumes.having("side", 1)))
    assert longest > 8
    sample = parser.get_parsed_content("train#dataset")[(0, 0)]
    assert tuple(sample["image"].shape[1:]) == (16, 16, 8)


def test_accuracy_of_held_out_pairs_is_that_of_the_saved_network(pretrained_siamese, resolved):
    weights = load_checkpoint(pretrained_siamese / "checkpoint.pt")["model"]
    network, task = build_network(load_weights(pretrained_siamese / "encoder.pt")["network_def"]), SameSide()
    task.setup(network)
    for module, prefix in ((network, "network."), (task, "tasks.same_side.")):
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        module.load_state_dict(own, strict=prefix != "network.")
    regions = SideRegions(resolved().get_parsed_content("validate#volumes"), region_size=[16, 16, 16])
    embedding = SideEmbedding(network, task).eval()
    with torch.no_grad():
        found = [(embedding(item["image"][None])[0].double(), int(item["label"]), item["group"]) for item in regions]
    right = {"same": {}, "opposite": {}}
    for (a, side_a, owner_a), (b, side_b, owner_b) in itertools.combinations(found, 2):
        if owner_a != owner_b:
            kind = "same" if side_a == side_b else "opposite"
            verdict = (float((a - b).norm()) < 0.75) == (kind == "same")
            for owner in (owner_a, owner_b):
                right[kind].setdefault(owner, []).append(verdict)
    rows = table(pretrained_siamese / "scores.csv")
    assert {f"{row['dataset']}/{row['group']}" for row in rows} == set(right["same"])
    for row in rows:
        for kind, of_patient in right.items():
            verdicts = of_patient[f"{row['dataset']}/{row['group']}"]
            assert int(row[f"{kind}_pairs"]) == len(verdicts)
            assert float(row[f"{kind}_accuracy"]) == pytest.approx(np.mean(verdicts))
    summary = json.loads((pretrained_siamese / "summary.json").read_text())
    means = [np.mean([np.mean(verdicts) for verdicts in of_patient.values()]) for of_patient in right.values()]
    assert summary["pair_accuracy"]["mean"] == pytest.approx(np.mean(means))
    assert summary["kidneys"] == {"left": 3, "right": 3}


def test_events_show_accuracy_of_pairs_and_the_pairs(pretrained_siamese):
    events = EventAccumulator(str(pretrained_siamese)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"loss/total", "loss/same_side", "same_side/accuracy", "learning_rate"} <= scalars
    assert {f"validation/{name}" for name in ("pair_accuracy", "same_accuracy", "opposite_accuracy")} <= scalars
    assert {"first/image", "second/image"} <= set(events.Tags()["images"])


VARIANTS = {
    "half_volume": {"proxy": "half_volume"},
    "constant": {"region_intensity": "constant"},
    "mirrored": {"mirror_right": True},
    "flatten": {"embedding": "flatten", "margin": 20.0},
    "same patient too": {"different_patients": False},
    "without validation": {"fold": "none"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains(variant, pretrain_siamese):
    folder = pretrain_siamese(epochs=1, **VARIANTS[variant])
    assert all(math.isfinite(float(row["same_side"])) for row in table(folder / "losses.csv"))
    assert (folder / "encoder.pt").is_file()
    assert (folder / "summary.json").is_file() == (variant != "without validation")


def test_masked_constant_and_mirrored_regions_are_what_they_say(resolved):
    plain, constant, mirrored = (
        resolved(**more).get_parsed_content("validate#dataset")
        for more in ({}, {"region_intensity": "constant"}, {"mirror_right": True})
    )
    assert len(plain) == len(constant) == len(mirrored) == 6
    for masked, shape, flipped in zip(plain, constant, mirrored, strict=True):
        inside = shape["image"] == 1
        assert set(shape["image"].unique().tolist()) == {0, 1}
        assert not masked["image"][~inside].any()
        assert masked["image"][inside].all()
        side = int(masked["label"])
        assert int(flipped["label"]) == side
        expected = masked["image"].flip(1) if side == 2 else masked["image"]
        # mirrored boxes put an odd margin on the other end
        where = [(image != 0).nonzero().amin(0)[1:] for image in (flipped["image"], expected)]
        moved = expected.roll(tuple((where[0] - where[1]).tolist()), (1, 2, 3))
        assert torch.equal(flipped["image"], moved)
        assert (where[0] - where[1]).abs().max() <= 1


@pytest.fixture
def spoilt(kidneys, tmp_path):
    """The same cohort with label files that are damaged or not there."""
    folder = tmp_path / "spoilt"
    shutil.copytree(kidneys["data"], folder)
    for number, path in enumerate(sorted(folder.glob("data/*/segmentation.nii.gz"))):
        path.unlink() if number % 2 else path.write_bytes(b"nothing")
    return str(folder)


def test_half_volumes_read_no_label_file(spoilt, pretrain_siamese, kidneys, tmp_path):
    given = {"proxy": "half_volume", "store_dir": str(tmp_path / "store"), "label_groups": {"spleen": ["spleen"]}}
    blind = pretrain_siamese(dataset_dir=spoilt, output_dir=str(tmp_path / "blind"), **given)
    seeing = pretrain_siamese(output_dir=str(tmp_path / "seeing"), **{**given, "store_dir": kidneys["store"]})
    assert (blind / "losses.csv").read_bytes() == (seeing / "losses.csv").read_bytes()
    assert (blind / "scores.csv").read_bytes() == (seeing / "scores.csv").read_bytes()
    records = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("*/*.json")]
    assert len(records) == 7
    assert not any("label" in json.dumps(record) for record in records)


def test_half_volumes_are_the_halves_of_the_body(resolved):
    parser = resolved(proxy="half_volume")
    assert parser.get_parsed_content("box_size") == [16, 32, 16]
    for volume in parser.get_parsed_content("train#volumes"):
        left, right = (volume.bounds("side", side) for side in (1, 2))
        assert left[1][0] == right[0][0]
        # the body is 34 voxels wide and stands in air
        assert 15 <= left[1][0] - left[0][0] <= 18
        assert 15 <= right[1][0] - right[0][0] <= 18
        assert left[0][0] > 0


def test_masked_pairs_are_of_the_patients_that_the_training_has(resolved, pretrain_siamese):
    folder = pretrain_siamese(fraction=50, epochs=1)
    training = resolved(stage="train", fraction=50).get_parsed_content("split")
    whole = resolved(stage="train").get_parsed_content("split")
    assert len(training.training) == 2 < len(whole.training)
    seen = {row["patient"] for row in table(folder / "sides.csv") if row["part"] == "training"}
    assert seen == patients(training.training)
    assert load_weights(folder / "encoder.pt")["settings"]["trained_on"] == patient_digests(training.training)


def test_all_images_are_those_of_the_training_folds_and_the_unlabelled_ones(resolved, pretrain_siamese):
    folder = pretrain_siamese(proxy="half_volume", training_images="all", fraction=25, epochs=1)
    split = resolved(stage="train", fraction=25).get_parsed_content("split")
    whole = resolved(stage="train").get_parsed_content("split")
    seen = {row["patient"] for row in table(folder / "sides.csv") if row["part"] == "training"}
    assert seen - {HIDDEN} == patients(whole.training) > patients(split.training)
    assert HIDDEN in seen
    assert not seen & patients(split.validation)
    settings = load_weights(folder / "encoder.pt")["settings"]
    assert (settings["proxy"], settings["labels_of"]) == ("half_volume", [])
    trained_on = settings["trained_on"]
    assert len(trained_on) == len(seen)
    assert set(trained_on) > set(patient_digests(whole.training))
    assert not set(trained_on) & set(patient_digests(split.validation))
    assert json.loads((folder / "data_check.json").read_text())["cases"] == 8


def test_another_scan_of_a_validation_patient_is_no_unlabelled_image(resolved, kidneys, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(kidneys["data"], folder)
    manifest = folder / "dataset.json"
    content = json.loads(manifest.read_text())
    content["test"][0]["patient"] = "case_00000"
    manifest.write_text(json.dumps(content))
    used = []
    for fold in range(3):
        parser = resolved(proxy="half_volume", training_images="all", dataset_dir=str(folder), fold=fold)
        held_out = patients(parser.get_parsed_content("split").validation)
        used.append(HIDDEN in {case.id for case in parser.get_parsed_content("training_cases")})
        assert used[-1] == ("case_00000" not in held_out)
    assert sorted(used) == [False, True, True]


def test_tumour_counts_as_kidney_whatever_its_value(pretrain_siamese, tmp_path):
    folders = {name: tmp_path / name for name in ("two", "one")}
    write_kidneys(folders["two"])
    shutil.copytree(folders["two"], folders["one"])
    for path in folders["one"].glob("data/*/segmentation.nii.gz"):
        volume = nib.load(path)
        merged = np.minimum(np.asarray(volume.dataobj), 1).astype(np.uint8)
        nib.Nifti1Image(merged, volume.affine).to_filename(path)
    manifest = folders["one"] / "dataset.json"
    manifest.write_text(manifest.read_text().replace(', "2": "tumour"', ""))
    for name, data in folders.items():
        more = {"dataset_dir": str(data), "store_dir": str(tmp_path / "store"), "fold": "none"}
        pretrain_siamese(output_dir=str(tmp_path / f"{name}.run"), **more)
    for file in ("losses.csv", "sides.csv"):
        assert (tmp_path / "one.run" / file).read_bytes() == (tmp_path / "two.run" / file).read_bytes()


# option -> (value, entry of the config, where in the entry it must arrive)
KNOBS = {
    "precision": ("bfloat16", "train#trainer", lambda t: str(t.dtype).removeprefix("torch.")),
    "workers": (1, "train#dataloader", lambda loader: loader.num_workers),
    "epochs": (3, "train#trainer", lambda t: t.state.max_epochs),
    "iterations_per_epoch": (5, "train#trainer", lambda t: t.state.epoch_length),
    "batch_size": (3, "train#dataloader", lambda loader: loader.batch_sampler.batch_size),
    "learning_rate": (0.003, "train#optimizer", lambda o: o.param_groups[0]["lr"]),
    "weight_decay": (0.004, "train#optimizer", lambda o: o.param_groups[0]["weight_decay"]),
    "mirror_right": (True, "train#draw", lambda d: d.mirror_right),
    "different_patients": (False, "train#draw", lambda d: d.different_patients),
    "region_intensity": ("constant", "train#draw", lambda d: "constant" if d.constant else "image"),
    "embedding": ("flatten", "train#tasks#same_side", lambda t: t.embedding),
    "margin": (1.5, "train#tasks#same_side", lambda t: t.loss.margin),
    "accuracy_threshold": (0.6, "validate#key_metric#pair_accuracy", lambda m: m.threshold),
    "spacing": ([9.0, 9.0, 9.0], "train#preprocessing#transforms#2", lambda t: list(t.spacing_transform.pixdim)),
    "minimum_ml": (4.0, "train#preprocessing#transforms#4", lambda t: t.minimum_ml),
    "window": ([-90.0, 110.0], "train#preprocessing#transforms#6", lambda t: [t.scaler.a_min, t.scaler.a_max]),
    "network_def#growth": ([4, 8, 8, 12], "network", lambda n: [4, 8, 8, n.level_channels[3] - 16]),
}


def test_every_knob_reaches_its_object(resolved):
    parser = resolved(seed=4, **{name: value for name, (value, _, _) in KNOBS.items()})
    for name, (value, entry, arrived) in KNOBS.items():
        assert arrived(parser.get_parsed_content(entry)) == value, name
    assert parser.get_parsed_content("train#trainer").seed == parser.get_parsed_content("train#dataset").seed == 4
    assert parser.get_parsed_content("train#tasks#same_side").threshold == 0.6
    assert parser.get_parsed_content("train#draw").region_size == (14, 14, 18)
    assert parser.get_parsed_content("validate#dataset").region_size == (14, 14, 18)


def test_paper_overlay_has_the_published_settings(resolved, kidneys):
    parser = resolved("paper", tiny=False, dataset_dir=kidneys["data"], store_dir=kidneys["store"])

    def value(name):
        return parser.get_parsed_content(name)

    assert value("spacing") == [1.62, 1.62, 3.22]
    assert value("box_size") == [112, 112, 64]
    assert value("window") == [-80.0, 300.0]
    assert (value("batch_size"), value("learning_rate"), value("weight_decay")) == (1, 1e-3, 1e-2)
    assert type(value("train#optimizer")) is torch.optim.Adam
    assert (value("margin"), value("accuracy_threshold")) == (1.0, 0.75)
    assert (value("mirror_right"), value("different_patients"), value("proxy")) == (False, True, "masked")
    # a pass over the patients, of whom the default split leaves 4 of 5 for training
    assert value("iterations_per_epoch") == len(value("split").training) == 5
    assert (value("network_def#block_layers"), value("network_def#growth")) == ([2, 2, 4, 8], [4, 16, 16, 16])
    assert value("network").level_channels == [16, 16, 16, 144]
