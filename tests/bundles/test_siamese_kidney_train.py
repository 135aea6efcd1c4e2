"""The training config of the kidney bundle: with and without an encoder, at a scale of seconds."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from siamese_kidney_runs import TINY_SIAMESE, run_siamese
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtmed.bundle import patient_digests
from mtmed.bundle.messages import mendable
from mtmed.networks import load_network
from mtmed.networks.weights import atomic_save, load_weights, sha256_of

SIDES = {"left": 0, "right": 20}  # first voxel of each half of 40
TERMS = ["cross_entropy", "dice", "reconstruction"]


@pytest.fixture
def resolved(siamese_config, siamese_options, tmp_path):
    """Parser of the config with overlays and overrides; nothing runs."""

    def parse(*overlays, stage="train", **more):
        parser = ConfigParser()
        parser.read_config(siamese_config(stage, *overlays))
        parser.update(siamese_options(stage, **{"output_dir": str(tmp_path / "parsed"), **more}))
        return parser.get_parsed_content

    return parse


@pytest.fixture(scope="module")
def finetuned(siamese_options, pretrained_siamese, tmp_path_factory) -> Path:
    """Folder of a finished training that starts from the pre-trained encoder."""
    folder = tmp_path_factory.mktemp("finetuned_siamese") / "run"
    given = siamese_options("train", pretrained=str(pretrained_siamese / "encoder.pt"), output_dir=str(folder))
    return run_siamese("train", given)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curve(folder: Path, tag: str) -> list[float]:
    return [event.value for event in EventAccumulator(str(folder)).Reload().Scalars(tag)]


def in_ras(path: str | Path) -> np.ndarray:
    """Voxels of a file whose axes are I, P, L, as R, A, S."""
    return np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)[::-1, ::-1, ::-1].copy()


def normalised(path: str | Path) -> np.ndarray:
    window = (np.clip(in_ras(path).astype(np.float64), -80, 300) + 80) / 380
    return (window - window.mean()) / window.std()


# --- with and without an encoder ----------------------------------------------------------------------------------


def test_same_file_trains_from_scratch_and_from_an_encoder(
    trained_siamese: Path, finetuned: Path, pretrained_siamese: Path
) -> None:
    executed = [json.loads((folder / "config.json").read_text()) for folder in (trained_siamese, finetuned)]
    assert executed[0]["pretrained"] is None
    # what the encoder's file says stands in one of them as an option of the tiny run
    told = {"pretrained", "output_dir", "spacing", "network_def"}
    plain, continued = ({k: v for k, v in config.items() if k not in told} for config in executed)
    assert plain == continued
    for folder in (trained_siamese, finetuned):
        assert list(table(folder)[0]) == ["iteration", "loss", *TERMS, "learning_rate"]
        assert "inference.json --checkpoint" in (folder / "log.txt").read_text().splitlines()[-1]
    alone, after = (load_weights(folder / "model.pt") for folder in (trained_siamese, finetuned))
    assert alone["network_def"] == after["network_def"]
    assert alone["settings"].pop("pretraining") is None
    pretraining = after["settings"].pop("pretraining")
    assert pretraining == {"proxy": "masked", "sha256": sha256_of(pretrained_siamese / "encoder.pt")}
    assert alone["settings"] == after["settings"]


def test_whole_encoder_arrives_and_the_log_says_so(finetuned: Path, pretrained_siamese: Path, resolved: Any) -> None:
    encoder = load_weights(pretrained_siamese / "encoder.pt")["model"]
    count = len(encoder)
    assert f"encoder: {count} of {count} tensors transferred" in (finetuned / "log.txt").read_text()
    network = resolved(pretrained=str(pretrained_siamese / "encoder.pt"))("network")
    state = network.state_dict()
    assert {name for name in state if name.startswith(network.encoder_prefixes)} == set(encoder)
    assert all(torch.equal(state[name], value) for name, value in encoder.items())


def test_network_and_preprocessing_follow_the_encoder(pretrained_siamese: Path, resolved: Any, tmp_path: Path) -> None:
    content = load_weights(pretrained_siamese / "encoder.pt")
    carried = {"spacing": [9.0, 7.0, 11.0], "window": [-90.0, 200.0], "label_groups": {"organ": ["kidney"]}}
    content["settings"] |= carried
    atomic_save(content, tmp_path / "encoder.pt")
    get = resolved(pretrained=str(tmp_path / "encoder.pt"))
    settings = get("settings")
    assert {key: settings[key] for key in carried} == carried
    assert settings["label_names"] == {"0": "background", "1": "organ"}
    definition = get("network").definition
    assert definition["block_layers"] == TINY_SIAMESE["network_def#block_layers"]
    assert definition["out_channels"] == 2


def test_encoder_that_learnt_from_more_labels_is_refused(train_siamese: Any, pretrained_siamese: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        train_siamese(pretrained=str(pretrained_siamese / "encoder.pt"), fraction=50)
    line = str(mendable(caught.value))
    assert "pretrained: learnt from the labels of" in line
    assert "--fraction" in line


def test_encoder_that_saw_the_validation_fold_is_refused(train_siamese: Any, pretrained_siamese: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        train_siamese(pretrained=str(pretrained_siamese / "encoder.pt"), fold=1)
    line = str(mendable(caught.value))
    assert "are of patients that the network was trained on" in line
    assert "\n" not in line


def test_patients_of_the_encoder_count_as_seen_by_the_model(
    resolved: Any, pretrained_siamese: Path, finetuned: Path
) -> None:
    get = resolved(pretrained=str(pretrained_siamese / "encoder.pt"), fraction=50)
    seen = set(load_weights(pretrained_siamese / "encoder.pt")["settings"]["trained_on"])
    few = set(patient_digests(get("split").training))
    assert few < seen
    assert set(get("settings")["trained_on"]) == seen
    assert set(load_weights(finetuned / "model.pt")["settings"]["trained_on"]) == seen


# --- losses -------------------------------------------------------------------------------------------------------


def test_weights_move_linearly_from_cross_entropy_to_dice(trained_siamese: Path) -> None:
    share = np.arange(4) / 3
    expected = {"cross_entropy": 0.6 - 0.4 * share, "dice": 0.4 + 0.4 * share, "reconstruction": np.full(4, 0.1)}
    for name, weights in expected.items():
        np.testing.assert_allclose(curve(trained_siamese, f"weight/{name}"), weights, rtol=1e-6)
    for step, row in enumerate(table(trained_siamese)):
        total = sum(weights[step] * float(row[name]) for name, weights in expected.items())
        assert float(row["loss"]) == pytest.approx(total, rel=1e-5)


def test_weights_and_their_ends_are_keys(train_siamese: Any) -> None:
    given = {"cross_entropy_weight": [1.0, 0.0], "dice_weight": [0.5, 0.5], "reconstruction_weight": 0.3}
    folder = train_siamese(epochs=1, iterations_per_epoch=3, **given)
    np.testing.assert_allclose(curve(folder, "weight/cross_entropy"), [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(curve(folder, "weight/dice"), [0.5, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(curve(folder, "weight/reconstruction"), [0.3] * 3, rtol=1e-6)


def test_reconstruction_of_weight_0_has_no_parameters(resolved: Any, train_siamese: Any) -> None:
    model = resolved(reconstruction_weight=0)("train#multi_task_model")
    assert list(model.tasks) == ["segmentation"]
    assert not [name for name, _ in model.named_parameters() if "reconstruction" in name]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [name for name, _ in resolved()("train#multi_task_model").named_parameters() if "reconstruction" in name]
    folder = train_siamese(reconstruction_weight=0, epochs=1)
    assert list(table(folder)[0]) == ["iteration", "loss", "cross_entropy", "dice", "learning_rate"]


def test_reconstruction_has_a_branch_of_its_own_without_skips(resolved: Any) -> None:
    task = resolved()("train#multi_task_model").tasks["reconstruction"]
    assert (task.needs, task.levels) == ("encoded", (-1,))


# --- data ---------------------------------------------------------------------------------------------------------


def test_tumour_counts_as_kidney(resolved: Any) -> None:
    get = resolved()
    values = set()
    for volume in get("train#dataset").volumes:
        label = in_ras(volume.case.label)
        values |= set(np.unique(label).tolist())
        stored = volume.crop((0, 0, 0), volume.shape)["label"][0]
        np.testing.assert_array_equal(stored, label > 0)
    assert values == {0, 1, 2}


def test_whole_volumes_are_given_as_they_are_without_augmentation(resolved: Any) -> None:
    get = resolved(batch_size=1)
    dataset = get("train#dataset")
    cases = len(dataset.volumes)
    seen: dict[int, torch.Tensor] = {}
    for step in range(2 * cases):
        sample = dataset[step, 0]
        assert sample["image"].shape == sample["label"].shape == (1, 40, 32, 20)
        again = seen.setdefault(sample["volume"], sample["image"])
        assert torch.equal(sample["image"], again)
    assert len(seen) == cases
    for number, image in seen.items():
        np.testing.assert_allclose(image[0], normalised(dataset.volumes[number].case.image[0]), atol=1e-3)
    views = get("train#views")
    assert not views.intensity
    assert views.geometry is None or not views.geometry.operations


def test_halves_are_left_and_right_ones(resolved: Any, train_siamese: Any) -> None:
    get = resolved(part="half")
    dataset = get("train#dataset")
    starts = set()
    for step in range(12):
        sample = dataset[step, 0]
        assert sample["image"].shape == (1, 20, 32, 20)
        whole = normalised(dataset.volumes[sample["volume"]].case.image[0])
        half = {side: whole[start : start + 20] for side, start in SIDES.items()}
        starts |= {side for side, crop in half.items() if np.allclose(sample["image"][0], crop, atol=1e-3)}
    assert starts == set(SIDES)
    content = load_weights(train_siamese(part="half", epochs=1) / "model.pt")
    assert (content["settings"]["part"], content["settings"]["window_size"]) == ("half", [0.5, -1, -1])


def test_validation_dice_is_that_of_the_kept_network(train_siamese: Any) -> None:
    # kidneys weigh more, so that so short a training finds some
    folder = train_siamese(epochs=3, iterations_per_epoch=6, val_interval=1, learning_rate=0.02, foreground_weight=30.0)
    network, settings = load_network(folder / "model.pt")
    assert settings["window_size"] == [-1, -1, -1]
    config = ConfigParser(json.loads((folder / "config.json").read_text()))
    scores = []
    for case in config.get_parsed_content("split").validation:
        with torch.no_grad():
            logits = network(torch.from_numpy(normalised(case.image[0]))[None, None].float())
        predicted, kidney = (logits[0].argmax(0) == 1).numpy(), in_ras(case.label) > 0
        scores.append(2 * (predicted & kidney).sum() / (predicted.sum() + kidney.sum()))
    dice = curve(folder, "validation/mean_dice")
    assert len(dice) == 3
    assert max(dice) > 0.05
    assert np.mean(scores) == pytest.approx(max(dice), abs=2e-3)
    assert curve(folder, "validation/mean_dice/kidney") == dice


def test_without_folds_all_cases_train_and_the_last_network_is_kept(resolved: Any, train_siamese: Any) -> None:
    split = resolved(fold="none")("split")
    assert (len(split.training), len(split.validation)) == (7, 0)
    folder = train_siamese(fold="none", epochs=1)
    assert not (folder / "model.pt").exists()
    assert f"Model: {folder}/last.pt" in (folder / "log.txt").read_text()


# --- settings -----------------------------------------------------------------------------------------------------

# option -> (value, entry of the config, where in the entry it must arrive)
KNOBS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "precision": ("bfloat16", "train#trainer", lambda t: str(t.dtype).removeprefix("torch.")),
    "workers": (1, "train#dataloader", lambda loader: loader.num_workers),
    "epochs": (3, "train#trainer", lambda t: t.state.max_epochs),
    "iterations_per_epoch": (5, "train#trainer", lambda t: t.state.epoch_length),
    "batch_size": (3, "train#dataloader", lambda loader: loader.batch_sampler.batch_size),
    "learning_rate": (0.004, "train#optimizer", lambda o: o.param_groups[0]["lr"]),
    "weight_decay": (0.003, "train#optimizer", lambda o: o.param_groups[0]["weight_decay"]),
    "foreground_weight": (
        4.0,
        "train#tasks#segmentation#loss",
        lambda losses: float(losses["cross_entropy"].foreground_weight),
    ),
    "spacing": ([5.0, 5.0, 6.0], "train#preprocessing#transforms#2", lambda t: list(t.spacing_transform.pixdim)),
    "part": ("half", "train#draw", lambda draw: draw.part),
    "overlap": (0.25, "validate#inferer", lambda i: i.overlap),
    "window_size": ([32, 32, 16], "validate#inferer", lambda i: list(i.roi_size)),
    "network_def#paper_order": (True, "network", lambda n: n.paper_order),
    "network_def#recompute": (True, "network", lambda n: n.definition["recompute"]),
    "network_def#growth": ([8, 4, 4, 4], "network", lambda n: n.definition["growth"]),
}


def test_every_knob_reaches_its_object(resolved: Any) -> None:
    get = resolved(seed=4, **{name: value for name, (value, _, _) in KNOBS.items()})
    for name, (value, entry, arrived) in KNOBS.items():
        assert arrived(get(entry)) == value, name
    assert get("train#trainer").seed == get("train#dataset").seed == 4
    assert get("train#weighting").steps == 15


def test_paper_overlay_has_the_published_settings(siamese_config: Any, kidneys: dict[str, str]) -> None:
    parser = ConfigParser()
    parser.read_config(siamese_config("train", "paper"))
    parser.update({"dataset_dir": kidneys["data"], "store_dir": kidneys["store"], "device": "cpu", "output_dir": "no"})
    value = parser.get_parsed_content
    split = value("split")
    assert (value("epochs"), value("batch_size"), value("val_interval")) == (200, 1, 1)
    # one pass over the training cases per epoch, of a random 80 % of the patients
    assert value("iterations_per_epoch") == len(split.training)
    assert value("folds") == 5
    assert value("spacing") == [1.62, 1.62, 3.22]
    assert value("window") == [-80.0, 300.0]
    assert value("part") == "whole"
    assert value("window_size") == [-1, -1, -1]
    weighting = value("train#weighting")
    assert weighting.start == {"cross_entropy": 0.6, "dice": 0.4, "reconstruction": 0.1}
    assert weighting.end == {"cross_entropy": 0.2, "dice": 0.8, "reconstruction": 0.1}
    assert weighting.steps == 200 * len(split.training)
    optimiser = value("train#optimizer")
    assert isinstance(optimiser, torch.optim.Adam)
    assert {name: optimiser.param_groups[0][name] for name in ("lr", "weight_decay")} == {
        "lr": 1e-3,
        "weight_decay": 1e-2,
    }
    network = value("network")
    assert network.level_channels == [16, 16, 16, 144]
    assert network.level_strides == [4, 8, 16, 16]
    assert not network.paper_order
    assert not value("train#views").intensity


def test_paper_overlay_runs_shrunk(train_siamese: Any, siamese_config: Any) -> None:
    folder = train_siamese(*siamese_config("paper"), epochs=1)
    executed = json.loads((folder / "config.json").read_text())
    assert (executed["weight_decay"], executed["window"]) == (0.01, [-80.0, 300.0])
    assert executed["spacing"] == TINY_SIAMESE["spacing"]
    assert (folder / "model.pt").is_file()
