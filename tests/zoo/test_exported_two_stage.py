"""The exported two-stage bundle: the student's weights, and both stages of its training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from exported_kinds import BUNDLES, KINDS
from running import run_in_process

from mtmed.bundle.messages import mendable
from mtmed.networks import build_network, load_network, save_network, sha256_of
from mtmed.networks.weights import load_weights
from mtmed.zoo import export_bundle

KIND = KINDS["two_stage"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Weights files of a student and of two teachers."""
    paths = []
    for seed in range(3):
        torch.manual_seed(seed)
        paths.append(tmp_path_factory.mktemp("run") / "model.pt")
        save_network(paths[-1], build_network(KIND.definition), {**KIND.settings, "trained_on": ["someone"]})
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def exported(networks: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(
        BUNDLES / KIND.bundle, checkpoint=networks[0], output=tmp_path_factory.mktemp("dist"), name=KIND.name
    )


@pytest.fixture(scope="module")
def given(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a short training of the exported bundle."""
    folder = tmp_path_factory.mktemp("scans")
    places = {"bundle_root": str(exported), "dataset_dir": KIND.scans(folder / "data"), **KIND.kept(folder)}
    return {**KIND.short_training(), **places, "device": "cpu"}


def test_student_is_exported_alone_with_both_stages_of_its_training(exported: Path, networks: list[str]) -> None:
    assert [file.name for file in (exported / "models").iterdir()] == ["model.pt"]
    state = torch.load(exported / "models" / "model.pt", weights_only=True)
    expected = load_network(networks[0])[0].state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert {file.name for file in (exported / "configs").iterdir()} == {
        *("metadata.json", "logging.conf", "train.json", "distill.json", "inference.json", "evaluate.json"),
        "multi_gpu_train.json",
    }
    for name in ("train", "distill"):
        config = json.loads((exported / "configs" / f"{name}.json").read_text())
        assert (config["bundle_root"], config["network_def"]) == (".", KIND.definition)
        assert config["network_defs"] == {"small_unet": {}}
        # a size of patches stays what it is where the network takes slices
        assert config["patch_size"] == [32, 64, 64]


def test_no_patient_stands_in_the_exported_files(exported: Path) -> None:
    assert not [file for file in exported.glob("configs/*") if "someone" in file.read_text()]


def test_metadata_speak_of_x_rays_of_the_trained_size(exported: Path) -> None:
    data_format = json.loads((exported / "configs" / "metadata.json").read_text())["network_data_format"]
    image, prediction = data_format["inputs"]["image"], data_format["outputs"]["pred"]
    assert (image["channel_def"], image["spatial_shape"]) == ({"0": "CR"}, [32, 16])
    assert (prediction["channel_def"], prediction["spatial_shape"]) == ({"0": "pneumothorax"}, [32, 16])


def test_exported_distillation_makes_another_student(
    exported: Path, networks: list[str], given: dict[str, Any], tmp_path: Path
) -> None:
    options = {**given, "teachers": networks[1:], "output_dir": str(tmp_path / "run")}
    weights = load_weights(run_in_process("distill", options, bundle=exported / "configs") / "model.pt")
    assert weights["network_def"] == KIND.definition
    assert weights["settings"]["teachers_sha256"] == [sha256_of(path) for path in networks[1:]]
    assert "someone" in weights["settings"]["trained_on"]


@pytest.mark.slow
def test_exported_training_pretrains_with_its_own_metadata(
    exported: Path, given: dict[str, Any], tmp_path: Path
) -> None:
    options = {**given, "task": "jigsaw", "mode": "pretrained", "output_dir": str(tmp_path / "run")}
    folder = run_in_process("train", options, bundle=exported / "configs")
    assert load_weights(folder / "model.pt")["settings"]["mode"] == "pretrained"
    assert (folder / "pretraining" / "shared.pt").is_file()


def test_exported_training_knows_the_network_of_the_weights_alone(
    exported: Path, given: dict[str, Any], tmp_path: Path
) -> None:
    options = {**given, "network": "unetr", "output_dir": str(tmp_path / "run")}
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run_in_process("train", options, bundle=exported / "configs")
    assert "network: is 'unetr'; choose one of small_unet" in str(mendable(caught.value))
