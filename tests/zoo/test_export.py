"""`mtmed export` writes the zoo's layout, with the checkpoint's network in it and nothing half-done."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.scripts import load

import mtmed
from mtmed.cli import main
from mtmed.errors import InputError
from mtmed.networks import build_network, load_network, save_encoder
from mtmed.zoo import check_bundle, export_bundle


def read(file: Path) -> dict:
    return json.loads(file.read_text())


def test_exported_folder_has_the_layout_of_the_zoo(exported: Path) -> None:
    files = {file.relative_to(exported).as_posix() for file in exported.rglob("*") if file.is_file()}
    assert {name for name in files if not name.startswith("mtmed/")} == {
        "LICENSE",
        "configs/metadata.json",
        "configs/train.json",
        "configs/inference.json",
        "configs/multi_gpu_train.json",
        "configs/logging.conf",
        "models/model.pt",
        "docs/README.md",
        "docs/data_license.txt",
    }


def test_every_module_of_the_package_is_vendored_and_nothing_else(exported: Path) -> None:
    package = Path(mtmed.__file__).parent
    source = {file.relative_to(package) for file in package.rglob("*.py")}
    vendored = {file.relative_to(exported / "mtmed") for file in (exported / "mtmed").rglob("*.py")}
    assert vendored == source
    assert not list(exported.rglob("__pycache__"))


def test_network_of_the_checkpoint_stands_in_every_file(exported: Path, definition: dict[str, Any]) -> None:
    for name in ("train.json", "inference.json"):
        assert read(exported / "configs" / name)["network_def"] == definition
    data_format = read(exported / "configs" / "metadata.json")["network_data_format"]
    image, prediction = data_format["inputs"]["image"], data_format["outputs"]["pred"]
    assert (image["num_channels"], image["spatial_shape"]) == (1, [16, 16, 32])
    assert (prediction["num_channels"], prediction["spatial_shape"]) == (3, [16, 16, 32])
    assert prediction["channel_def"] == {"0": "background", "1": "liver", "2": "spleen"}


def test_settings_and_places_of_the_export_replace_those_of_the_source(
    exported: Path, settings: dict[str, Any]
) -> None:
    train, inference = (read(exported / "configs" / name) for name in ("train.json", "inference.json"))
    assert train["bundle_root"] == inference["bundle_root"] == "."
    assert train["spacing"] == settings["spacing"]
    assert train["patch_size"] == settings["patch_size"]
    assert inference["window"] == settings["window"]
    assert inference["checkpoint"] == "$@bundle_root + '/models/model.pt'"
    assert "{@bundle_root}/configs/inference.json" in train["next_step"]
    assert "checkpoint" not in train
    assert list(train) == list(read(exported / "configs" / "train.json"))


def test_weights_are_the_plain_state_that_monai_loads(exported: Path, small_checkpoint: Path) -> None:
    expected = load_network(small_checkpoint)[0].state_dict()
    state = torch.load(exported / "models" / "model.pt", weights_only=True)
    assert state.keys() == expected.keys()
    network = ConfigParser(read(exported / "configs" / "inference.json")).get_parsed_content("network_def")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loaded = load(exported.name, model=network, bundle_dir=str(exported.parent), source="monaihosting")
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in expected.items())
    assert any(not torch.equal(before[name], value) for name, value in expected.items())


def test_inference_builds_the_literal_network_and_loads_its_state(
    exported: Path, definition: dict[str, Any], settings: dict[str, Any]
) -> None:
    inference = read(exported / "configs" / "inference.json")
    assert "loaded" not in inference
    assert inference["settings"] == settings
    assert inference["label_names"] == settings["label_names"]
    loader, progress = inference["handlers"]
    assert loader == {"_target_": "CheckpointLoader", "load_path": "@weights", "load_dict": {"model": "@network"}}
    assert "{@bundle_root}/configs/evaluate.json" in progress["last_line"]
    record = ConfigParser(inference).get_parsed_content("record")
    assert record == definition


def test_small_bundle_passes_the_contract(exported: Path) -> None:
    assert check_bundle(exported) == []


def test_name_is_made_of_bundle_and_network(small_bundle: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    folder = export_bundle(small_bundle, checkpoint=small_checkpoint, output=tmp_path / "other")
    assert folder.name == "small_unetr_segmentation"


def test_existing_folder_is_not_touched(exported: Path, small_bundle: Path, small_checkpoint: Path) -> None:
    marker = exported / "marker"
    marker.touch()
    with pytest.raises(InputError, match="exists already"):
        export_bundle(small_bundle, checkpoint=small_checkpoint, output=exported.parent, name=exported.name)
    assert marker.is_file()


def test_failure_leaves_nothing_behind(small_bundle: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    (small_bundle / "inference.json").write_text("{")
    with pytest.raises(InputError, match=r"inference\.json: is not JSON"):
        export_bundle(small_bundle, checkpoint=small_checkpoint, output=tmp_path / "dist")
    assert list((tmp_path / "dist").iterdir()) == []


def test_folder_that_is_no_bundle_is_named(small_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"inference\.json: no such file; pass the folder of a bundle"):
        export_bundle(tmp_path, checkpoint=small_checkpoint, output=tmp_path / "dist")


def test_bundle_without_a_training_is_named(small_bundle: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    (small_bundle / "finetune.json").unlink()
    with pytest.raises(InputError, match=r"small: has no finetune\.json, train\.json or stage1\.json"):
        export_bundle(small_bundle, checkpoint=small_checkpoint, output=tmp_path / "dist")


def test_weights_that_lie_beside_the_checkpoint_go_along(
    small_bundle: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("model.pt", "rough.pt", "checkpoint.pt"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes(small_checkpoint.read_bytes())
    folder = export_bundle(small_bundle, checkpoint=tmp_path / "run" / "model.pt", output=tmp_path / "dist")
    assert {file.name for file in (folder / "models").iterdir()} == {"model.pt", "rough.safetensors"}


def test_encoder_alone_is_refused(
    small_bundle: Path, tmp_path: Path, definition: dict[str, Any], settings: dict[str, Any]
) -> None:
    save_encoder(tmp_path / "encoder.pt", build_network(definition), settings)
    with pytest.raises(InputError, match="not an encoder"):
        export_bundle(small_bundle, checkpoint=tmp_path / "encoder.pt", output=tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_command_line_exports_and_reports(
    small_bundle: Path, small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["export", str(small_bundle), "--checkpoint", str(small_checkpoint), "--output", str(tmp_path)]
    assert main([*common, "--name", "abdomen_ct_segmentation"]) == 0
    assert "abdomen_ct_segmentation" in capsys.readouterr().out
    assert main([*common, "--name", "abdomen"]) == 1
    assert "problem: abdomen: the folder's name" in capsys.readouterr().out
