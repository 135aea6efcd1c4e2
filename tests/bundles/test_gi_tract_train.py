"""The training config of the GI tract bundle: networks, auxiliaries and weightings, at a scale of seconds."""

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gi_tract_runs import DAYS, ORGANS, VARIANTS
from monai.bundle import ConfigParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.bundle import patient_digests
from mtmed.data import feature_statistics
from mtmed.losses import RandomWeighting
from mtmed.networks import load_network
from mtmed.networks.weights import load_weights
from mtmed.organ_masks import packed_names

LOSS_OF = {
    "plain": [],
    "film": [],
    "position": ["slice_position"],
    "contrast": ["contrast"],
    "momentum_contrast": ["momentum_contrast"],
}
MAIN = {"cross_entropy": 0.6, "dice": 0.4}


@pytest.fixture
def resolved(gi_tract_config, gi_tract_options, tmp_path):
    """Parser of the config with overlays and overrides; nothing runs."""

    def parse(*overlays, **more):
        parser = ConfigParser()
        parser.read_config(gi_tract_config("train", *overlays))
        parser.update(gi_tract_options("train", **{"output_dir": str(tmp_path / "parsed"), **more}))
        return parser.get_parsed_content

    return parse


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def curve(folder: Path, tag: str) -> list[float]:
    return [event.value for event in events(folder).Scalars(tag)]


def assert_total(folder: Path, weights: dict[str, Any]) -> None:
    """The loss is the sum with the weights in force, and TensorBoard shows these."""
    rows = table(folder)
    for name, values in weights.items():
        np.testing.assert_allclose(curve(folder, f"weight/{name}"), np.broadcast_to(values, len(rows)), rtol=1e-5)
    for step, row in enumerate(rows):
        total = sum(np.broadcast_to(v, len(rows))[step] * float(row[name]) for name, v in weights.items())
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)


# --- what is trained ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_its_losses_and_hands_on_a_network(variant: str, trained_gi_tract: Any) -> None:
    folder = trained_gi_tract(variant)
    own = LOSS_OF[variant]
    # names are sorted behind the total
    assert list(table(folder)[0]) == ["iteration", "loss", "cross_entropy", "dice", *own, "learning_rate"]
    assert len(table(folder)) == 4
    assert_total(folder, {**MAIN, **dict.fromkeys(own, 1 / 9)})
    assert "inference.json --checkpoint" in (folder / "log.txt").read_text().splitlines()[-1]
    network, _ = load_network(folder / "model.pt")
    planes = len(network.condition_features)
    assert bool(planes) == (variant == "film")
    assert network(torch.rand(2, 1 + planes, 16, 16)).shape == (2, len(ORGANS), 16, 16)
    # nothing of the auxiliary task is handed on
    assert set(load_weights(folder / "model.pt")["model"]) == set(network.state_dict())


NETWORKS: dict[str, dict[str, Any]] = {
    "big_unet": {"network": "big_unet", "auxiliary": "contrast", "film": True, "film_features": ["day_number"]},
    "deeplab": {"network": "deeplab", "network_defs#deeplab#encoder": "resnet18", "auxiliary": "position"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_train_with_auxiliaries_and_film(name: str, train_gi_tract: Any) -> None:
    if name == "deeplab" and importlib.util.find_spec("segmentation_models_pytorch") is None:
        pytest.skip("segmentation_models_pytorch is not installed")
    folder = train_gi_tract(**NETWORKS[name], image_size=[32, 32], epochs=1, iterations_per_epoch=1)
    content = load_weights(folder / "model.pt")
    expected = {"big_unet": "BigUNet", "deeplab": "SegmentationModel"}[name]
    assert content["network_def"]["_target_"] == f"mtmed.networks.{expected}"
    assert all(np.isfinite(float(value)) for row in table(folder) for value in row.values())
    network, settings = load_network(folder / "model.pt")
    planes = len(settings["features"])
    assert network(torch.rand(1, 1 + planes, 32, 32)).shape == (1, len(ORGANS), 32, 32)


def test_weights_file_has_the_settings_and_knows_its_patients(trained_gi_tract: Any, resolved: Any) -> None:
    settings = load_weights(trained_gi_tract("film") / "model.pt")["settings"]
    features = ["slice_position", "day_number", "pixel_height", "pixel_width", "image_height", "image_width"]
    assert settings == {
        "organs": list(ORGANS),
        "label_names": {str(value): name for value, name in packed_names(ORGANS).items()},
        "modalities": ["MR"],
        "slice_offsets": [0],
        "image_size": [16, 16],
        "normalise_per": "slice",
        "features": features,
        "split_key": "patient",
        "trained_on": patient_digests(resolved(film=True)("parts").training),
    }
    assert len(settings["trained_on"]) == 3


def test_film_standardises_with_the_numbers_of_the_training_slices(trained_gi_tract: Any, resolved: Any) -> None:
    folder = trained_gi_tract("film")
    film = load_weights(folder / "model.pt")["network_def"]["film"]
    cases = resolved(film=True)("parts").training
    days = np.repeat([case.metadata["day_number"] for case in cases], 8).astype(float)
    position = np.tile(np.arange(8) / 7, len(cases))
    # what does not vary has no deviation, and says nothing
    expected = {
        "slice_position": (position.mean(), position.std()),
        "day_number": (days.mean(), days.std()),
        "pixel_height": (3.5, 0.0),
        "pixel_width": (3.5, 0.0),
        "image_height": (20.0, 0.0),
        "image_width": (24.0, 0.0),
    }
    assert film["features"] == list(expected)
    for name, mean, deviation in zip(film["features"], film["mean"], film["deviation"], strict=True):
        assert (mean, deviation) == pytest.approx(expected[name], rel=1e-5), name
    get = resolved(film=True)
    statistics = feature_statistics(get("train#dataset").volumes, list(expected))
    assert (film["mean"], film["deviation"]) == (statistics["mean"], statistics["deviation"])


def test_film_network_is_told_about_every_sample(resolved: Any) -> None:
    dataset = resolved(film=True)("train#dataset")
    for position in range(4):
        sample = dataset[0, position]
        case = dataset.volumes[sample["volume"]].case
        numbers = [sample["slice_position"], DAYS[int(case.group.removeprefix("case"))], 3.5, 3.5, 20, 24]
        assert sample["slice_position"] == pytest.approx(sample["slice"] / 7)
        assert sample["condition"][[0, 2, 3, 4, 5]].tolist() == pytest.approx(
            [numbers[i] for i in (0, 2, 3, 4, 5)], rel=1e-6
        )
        assert int(sample["condition"][1]) == case.metadata["day_number"]
        assert int(sample["condition"][1]) in numbers[1]


# --- weightings ---------------------------------------------------------------------------------------------------


def test_weights_of_auxiliaries_are_keys_and_decay_with_the_epoch(train_gi_tract: Any) -> None:
    given = {"auxiliary": "position", "auxiliary_weight": 0.5, "weighting": "decaying"}
    folder = train_gi_tract(**given, epochs=3, iterations_per_epoch=2)
    assert_total(folder, {**MAIN, "slice_position": 0.5 / np.repeat([1, 2, 3], 2)})


def test_random_weights_are_shares_of_tasks(train_gi_tract: Any) -> None:
    folder = train_gi_tract(auxiliary="contrast", auxiliary_weight=0.5, weighting="random", seed=3)
    share = np.array(curve(folder, "weight/contrast")) / 0.5
    assert len(set(share.round(6))) == 4
    assert ((share > 0) & (share < 1)).all()
    assert_total(folder, {**{name: weight * (1 - share) for name, weight in MAIN.items()}, "contrast": 0.5 * share})
    losses = {name: torch.ones(()) for name in (*MAIN, "contrast")}
    alone = RandomWeighting(weights={**MAIN, "contrast": 0.5}, auxiliary=["contrast"], seed=3)
    np.testing.assert_allclose([alone(losses, step).weights["contrast"] for step in range(4)], 0.5 * share, rtol=1e-5)


def test_similarity_of_gradients_never_raises_the_weight(train_gi_tract: Any) -> None:
    folder = train_gi_tract(auxiliary="position", weighting="gradient_similarity", iterations_per_epoch=4)
    weight = np.array(curve(folder, "weight/slice_position"))
    assert len(weight) == 8
    assert (weight >= 0).all()
    assert (weight <= 1 / 9).all()
    assert len(set(weight)) > 1
    for name, constant in MAIN.items():
        np.testing.assert_allclose(curve(folder, f"weight/{name}"), constant, rtol=1e-6)


# --- what is logged -----------------------------------------------------------------------------------------------


def test_curves_and_pictures_are_in_the_run_folder(trained_gi_tract: Any) -> None:
    tags = events(trained_gi_tract("contrast")).Tags()
    metrics = ["slice_dice", *(f"slice_dice/{organ}" for organ in ORGANS)]
    wanted = {"loss/total", "loss/contrast", "weight/contrast", "learning_rate", "contrast/accuracy"}
    assert wanted | {f"validation/{name}" for name in metrics} <= set(tags["scalars"])
    assert "contrast/similarity" in tags["images"]
    assert any("validation" in name for name in tags["images"])
    np.testing.assert_allclose(
        curve(trained_gi_tract("plain"), "learning_rate"), 0.0005 * (1 + np.cos(np.pi * np.arange(4) / 4)), rtol=1e-5
    )


def test_validation_dice_is_that_of_the_kept_network(train_gi_tract: Any) -> None:
    folder = train_gi_tract(epochs=3, iterations_per_epoch=16, learning_rate=0.02, film=True, foreground_prior=0.02)
    network, settings = load_network(folder / "model.pt")
    parser = ConfigParser(json.loads((folder / "config.json").read_text()))
    (volume,) = parser.get_parsed_content("validate#dataset").volumes
    arrays = volume.crop((0, 0, 0), volume.shape)
    image = torch.from_numpy(arrays["image"][0])[:, None]
    table_of = [[i / 7, volume.case.metadata["day_number"], 3.5, 3.5, 20.0, 24.0] for i in range(8)]
    assert settings["features"][1] == "day_number"
    planes = torch.tensor(table_of)[:, :, None, None].expand(-1, -1, 16, 16)
    with torch.no_grad():
        found = (network.eval()(torch.cat([image, planes], 1)) > 0).numpy()
    masks = arrays["label"][0][:, None] >> np.arange(3)[:, None, None] & 1
    expected = []
    for organ in range(3):
        pairs = [(found[i, organ], masks[i, organ] > 0) for i in range(8) if masks[i, organ].any()]
        expected.append(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))
    dice = curve(folder, "validation/slice_dice")
    best = int(np.argmax(dice))
    assert dice[best] > 0.1
    for name, value in zip(ORGANS, expected, strict=True):
        assert curve(folder, f"validation/slice_dice/{name}")[best] == pytest.approx(value, abs=2e-3)
    assert dice[best] == pytest.approx(np.mean(expected), abs=2e-3)


# --- knobs --------------------------------------------------------------------------------------------------------

KNOBS: dict[str, tuple[Any, str, Any]] = {
    "epochs": (3, "train#trainer", lambda t: t.state.max_epochs),
    "iterations_per_epoch": (5, "train#trainer", lambda t: t.state.epoch_length),
    "batch_size": (6, "train#dataloader", lambda loader: loader.batch_sampler.batch_size),
    "learning_rate": (0.004, "train#optimizer", lambda o: o.param_groups[0]["lr"]),
    "minimum_distance": (2, "train#draw", lambda draw: draw.minimum_distance),
    "contrast_group": ("patient", "train#draw", lambda draw: draw.group),
    "temperature": (0.3, "train#tasks#momentum_contrast", lambda task: task.temperature),
    "queue_size": (12, "train#tasks#momentum_contrast", lambda task: len(task.keys)),
    "patience": (4, "train#handlers", lambda handlers: next(h.patience for h in handlers if hasattr(h, "patience"))),
    "normalise_per": (
        "scan",
        "train#preprocessing#transforms",
        lambda steps: next(s.per for s in steps if hasattr(s, "per")),
    ),
}


def test_every_knob_reaches_its_object(resolved: Any) -> None:
    get = resolved(auxiliary="momentum_contrast", seed=4, **{name: value for name, (value, _, _) in KNOBS.items()})
    for name, (value, entry, arrived) in KNOBS.items():
        assert arrived(get(entry)) == value, name
    assert get("train#trainer").seed == get("train#dataset").seed == 4
    # as many pairs as the batch has room for
    assert get("train#draw").pairs == 3


def test_paper_overlay_has_the_published_settings(gi_tract_config: Any, abdomens: dict[str, str]) -> None:
    parser = ConfigParser()
    parser.read_config(gi_tract_config("train", "paper"))
    folders = {"dataset_dir": abdomens["data"], "store_dir": abdomens["store"], "output_dir": "no", "device": "cpu"}
    # a patient of this cohort has no sixteen pairs
    parser.update({**folders, "auxiliary": "contrast", "film": True, "pairs": 2})
    value = parser.get_parsed_content
    assert (value("epochs"), value("patience"), value("batch_size")) == (10, 3, 32)
    assert value("train#draw").group == "patient"
    assert value("image_size") == [224, 224]
    assert value("auxiliary_weight") == pytest.approx(1 / 9)
    # the image three times
    assert value("slice_offsets") == [0, 0, 0]
    definition = value("network_def")
    assert (definition["in_channels"], definition["base_channels"], definition["depth"]) == (3, 48, 5)
    assert len(definition["film"]["features"]) == 7
    # a pass over the training slices
    slices = 8 * len(value("parts").training)
    assert value("iterations_per_epoch") == max(1, slices // 32)
