"""The pre-training config as it stands, at a scale of seconds."""

import csv
import itertools
import json

import pytest
import torch
from monai.bundle import ConfigParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.bundle import patient_digests
from mtmed.data import load_cohort
from mtmed.networks.weights import load_checkpoint, load_weights

LOSSES = ("identity", "label", "reconstruction")
SUBSETS = [list(subset) for size in (1, 2) for subset in itertools.combinations(LOSSES, size)]


def resolved(config, stage, *overlays, **overrides):
    parser = ConfigParser()
    parser.read_config(config(stage, *overlays))
    parser.update(overrides)
    return parser


def test_run_leaves_everything_that_is_promised(pretrained):
    rows = list(csv.DictReader((pretrained / "losses.csv").open(newline="")))
    assert list(rows[0]) == ["iteration", "loss", *LOSSES, "learning_rate"]
    assert len(rows) == 4
    for row in rows:
        weighted = float(row["identity"]) + 0.01 * float(row["label"]) + 0.01 * float(row["reconstruction"])
        assert float(row["loss"]) == pytest.approx(weighted, rel=1e-5)
    executed = json.loads((pretrained / "config.json").read_text())
    assert executed["epochs"] == 2
    assert json.loads((pretrained / "data_check.json").read_text())["cases"] == 6
    log = (pretrained / "log.txt").read_text().strip().splitlines()
    assert "epoch 2/2" in "".join(log)
    assert log[-1].endswith(
        f"Encoder: {pretrained}/encoder.pt. Next: python -m monai.bundle run --config_file "
        f"bundles/mixcl/finetune.json --pretrained {pretrained}/encoder.pt"
    )
    assert [path.name for path in pretrained.glob(".*")] == [".run.lock"]


def test_encoder_says_how_it_is_to_be_fed_and_whom_it_saw(pretrained, cohorts):
    content = load_weights(pretrained / "encoder.pt")
    patients = patient_digests(load_cohort(cohorts["partial"]).cases)
    assert content["settings"] == {
        "modalities": ["CT"],
        "spacing": [4.0, 4.0, 5.0],
        "window": [-150.0, 250.0],
        "patch_size": [32, 32, 16],
        "labels_of": patients,
        "split_key": "patient",
        "trained_on": patients,
    }
    assert content["network_def"] == {
        "_target_": "mtmed.networks.UNETR",
        "in_channels": 1,
        "out_channels": 1,
        "img_size": [32, 32, 16],
        "feature_size": 4,
        "hidden_size": 24,
        "mlp_dim": 48,
        "num_heads": 2,
    }
    model = load_checkpoint(pretrained / "checkpoint.pt")["model"]
    assert all(torch.equal(model[f"network.{name}"], value) for name, value in content["model"].items())


def test_events_show_losses_views_and_matrices(pretrained):
    events = EventAccumulator(str(pretrained)).Reload()
    scalars, images = set(events.Tags()["scalars"]), set(events.Tags()["images"])
    assert {f"loss/{name}" for name in ("total", *LOSSES)} <= scalars
    assert {f"weight/{name}" for name in LOSSES} | {"learning_rate"} <= scalars
    assert {f"identity/level_{level}" for level in range(5)} <= scalars
    views = ("view_a", "view_b", "auxiliary")
    assert {f"{view}/{kind}" for view in views for kind in ("image", "label")} <= images
    assert {f"reconstruction/{view}" for view in views} <= images
    assert {"sampling_weight/view_a", "sampling_weight/auxiliary", "correlation", "relation"} <= images
    written = list(csv.DictReader((pretrained / "losses.csv").open(newline="")))
    assert [event.value for event in events.Scalars("loss/total")] == pytest.approx(
        [float(row["loss"]) for row in written], rel=1e-6
    )


@pytest.mark.parametrize("losses", SUBSETS, ids="+".join)
def test_any_losses_may_be_left_out(losses, run_bundle):
    folder = run_bundle("pretrain", losses=losses, epochs=1)
    rows = list(csv.DictReader((folder / "losses.csv").open(newline="")))
    assert list(rows[0]) == ["iteration", "loss", *losses, "learning_rate"]
    assert (folder / "encoder.pt").is_file()


def test_no_loss_at_all_is_refused(refusal):
    assert "name at least one loss" in refusal("pretrain", losses=[])


def test_patch_whose_coarsest_map_is_one_voxel_is_refused(refusal):
    assert "leaves one voxel on level 4" in refusal("pretrain", patch_size=[16, 16, 16])


def test_loss_that_nobody_knows_is_refused(refusal):
    assert "lable" in refusal("pretrain", losses=["identity", "lable"])


def test_finished_run_says_so_and_stops(pretrained, run_bundle, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in pretrained.iterdir()}
    with pytest.raises(SystemExit) as ended:
        run_bundle("pretrain", output_dir=str(pretrained))
    assert ended.value.code == 0
    assert "This run is finished" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in pretrained.iterdir()} == before


def test_new_starts_over_and_gives_the_same_losses(pretrained, run_bundle, tmp_path):
    folder = run_bundle("pretrain", epochs=2)
    first = (folder / "losses.csv").read_text()
    assert first == (pretrained / "losses.csv").read_text()
    run_bundle("pretrain", epochs=2, new=True)
    assert (folder / "losses.csv").read_text() == first
    assert (tmp_path / "run.old-1" / "losses.csv").read_text() == first


def test_loader_workers_change_nothing(pretrained, run_bundle):
    folder = run_bundle("pretrain", workers=2)
    assert (folder / "losses.csv").read_text() == (pretrained / "losses.csv").read_text()


# option -> (value, entry of the config, where in the entry it must arrive)
KNOBS = {
    "precision": ("bfloat16", "train#trainer", lambda t: str(t.dtype).removeprefix("torch.")),
    "workers": (1, "train#dataloader", lambda loader: loader.num_workers),
    "epochs": (3, "train#trainer", lambda t: t.state.max_epochs),
    "iterations_per_epoch": (5, "train#trainer", lambda t: t.state.epoch_length),
    "batch_size": (3, "train#dataloader", lambda loader: loader.batch_sampler.batch_size),
    "learning_rate": (0.003, "train#optimizer", lambda o: o.param_groups[0]["lr"]),
    "weight_decay": (0.004, "train#optimizer", lambda o: o.param_groups[0]["weight_decay"]),
    "loss_weights#label": (0.3, "train#weighting", lambda w: w.weights["label"]),
    "spacing": ([5.0, 5.0, 6.0], "train#preprocessing#transforms#2", lambda t: list(t.spacing_transform.pixdim)),
    "window": ([-90.0, 110.0], "train#preprocessing#transforms#3", lambda t: [t.scaler.a_min, t.scaler.a_max]),
    "patch_size": ([48, 32, 16], "train#draw", lambda d: list(d.patch_size)),
    "foreground_probability": (0.7, "train#draw", lambda d: d.foreground_probability),
    "same_image_probability": (0.8, "train#draw", lambda d: d.same_image_probability),
    "pixels_per_class": (17, "train#tasks#consistency", lambda t: t.pixels_per_class),
    "temperature": (0.7, "train#tasks#consistency", lambda t: t.label.temperature),
    "label_loss_form": ("log_out", "train#tasks#consistency", lambda t: t.label.form),
    "background": ("ignore", "train#tasks#consistency", lambda t: t.label.background),
    "label_pairs": ("sample", "train#tasks#consistency", lambda t: t.pairs),
    "label_level": (2, "train#tasks#consistency", lambda t: t.label_level),
    "weight_map_mu": (5.0, "train#tasks#consistency", lambda t: t.mu),
    "weight_map_epsilon": (0.2, "train#tasks#consistency", lambda t: t.epsilon),
    "redundancy_weight": (0.5, "train#tasks#consistency", lambda t: t.identity.redundancy_weight),
    "off_diagonal_scale": ("channels", "train#tasks#consistency", lambda t: t.identity.off_diagonal_scale),
    "reconstruction_error": ("sum", "train#tasks#reconstruction", lambda t: t.error),
    "network_def#feature_size": (6, "network", lambda n: n.level_channels[0]),
    "network_def#hidden_size": (36, "network", lambda n: n.level_channels[4]),
}


def test_every_knob_reaches_its_object(config, options, tmp_path):
    overrides = {name: value for name, (value, _, _) in KNOBS.items()}
    parser = resolved(config, "pretrain", **options("pretrain", output_dir=str(tmp_path), seed=4, **overrides))
    for name, (value, entry, arrived) in KNOBS.items():
        assert arrived(parser.get_parsed_content(entry)) == value, name
    assert parser.get_parsed_content("network").image_size == [48, 32, 16]
    assert parser.get_parsed_content("train#trainer").seed == 4
    assert parser.get_parsed_content("train#dataset").seed == 4
    assert parser.get_parsed_content("train#dataset").global_batch_size == 3
    assert parser.get_parsed_content("train#lr_scheduler").T_max == 15
    distorted = {"Elastic": 0.5, "Affine": 0.5, "IntensityShift": 0.2, "Gamma": 0.2}
    views = parser.get_parsed_content("train#views")
    found = {type(op).__name__: op.probability for op in (*views.geometry.operations, *views.intensity)}
    assert {name: found[name] for name in distorted} == distorted
    assert (found["GaussianSmooth"], found["GaussianNoise"]) == (0.2, 0.2)


def test_paper_overlay_has_the_published_settings(config, tmp_path):
    parser = resolved(config, "pretrain", "paper", output_dir=str(tmp_path), device="cpu")

    def value(name):
        return parser.get_parsed_content(name)

    assert value("epochs") * value("iterations_per_epoch") == 1000
    assert value("batch_size") == 1  # on each of six GPUs
    assert (value("learning_rate"), value("weight_decay")) == (1e-4, 1e-5)
    assert value("spacing") == [1.5, 1.5, 2.0]
    assert value("window") == [-150.0, 250.0]
    assert value("patch_size") == [96, 96, 96]
    assert value("losses") == list(LOSSES)
    assert value("loss_weights") == {"identity": 1.0, "label": 0.01, "reconstruction": 0.01}
    assert (value("temperature"), value("weight_map_mu"), value("weight_map_epsilon")) == (0.1, 8.0, 0.05)
    assert (value("redundancy_weight"), value("label_level"), value("pixels_per_class")) == (0.0051, 1, 256)
    assert value("same_image_probability") == 0.5
    network = {name: value(f"network_def#{name}") for name in ("feature_size", "hidden_size", "mlp_dim", "num_heads")}
    assert network == {"feature_size": 16, "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12}
    assert value("network_def#img_size") == [96, 96, 96]
