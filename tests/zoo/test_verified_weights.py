"""An exported bundle reads no other weights than those that it was exported with."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from mtmed.errors import InputError
from mtmed.networks import save_encoder, save_network
from mtmed.networks.definition import build_network
from mtmed.zoo import check_bundle, export_bundle, verified_weights


@pytest.fixture
def bundle(
    small_bundle: Path, small_checkpoint: Path, tmp_path: Path, definition: dict[str, Any], settings: dict[str, Any]
) -> Path:
    (tmp_path / "run").mkdir()
    shutil.copy(small_checkpoint, tmp_path / "run" / "model.pt")
    save_network(tmp_path / "run" / "rough.pt", build_network(definition), {**settings, "trained_on": ["digest"]})
    inference = json.loads((small_bundle / "inference.json").read_text())
    (small_bundle / "inference.json").write_text(json.dumps({"imports": ["$import mtmed.networks"], **inference}))
    checkpoint = tmp_path / "run" / "model.pt"
    return export_bundle(small_bundle, checkpoint=checkpoint, output=tmp_path / "dist", name="abdomen_ct_segmentation")


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_the_metadata_give_the_hash_of_each_weights_file(bundle: Path) -> None:
    stated = json.loads((bundle / "configs" / "metadata.json").read_text())["weights_sha256"]
    files = sorted((bundle / "models").iterdir())
    assert stated == {f"models/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert list(stated) == ["models/model.pt", "models/rough.safetensors"]


def test_released_weights_are_tensors_alone_and_name_no_patient(bundle: Path) -> None:
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(type(value) is torch.Tensor for value in state.values())
    assert b"digest" not in (bundle / "models" / "rough.safetensors").read_bytes()


def test_unchanged_weights_are_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    assert "$import mtmed.zoo" in config["imports"]
    parser = ConfigParser(config, globals={"mtmed": "mtmed"})
    assert parser.get_parsed_content("weights") == "./models/model.pt"


@pytest.mark.parametrize("name", ["model.pt", "rough.safetensors"])
def test_one_flipped_bit_is_refused_in_one_line_before_anything_is_read(
    bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(bundle / "models" / name, -9)
    metadata = bundle / "configs" / "metadata.json"
    line = rf"^{bundle}/models/{name}: does not have the SHA-256 that {metadata} gives; copy or download the bundle"
    with pytest.raises(InputError, match=line):
        verified_weights(str(bundle / "models" / "model.pt"), bundle)
    assert check_bundle(bundle) == [f"models/{name}: its SHA-256 is not that of configs/metadata.json"]


def test_a_file_that_the_metadata_do_not_know_is_refused(bundle: Path) -> None:
    shutil.copy(bundle / "models" / "model.pt", bundle / "models" / "other.pt")
    with pytest.raises(InputError, match=r"other\.pt: is not in weights_sha256 of"):
        verified_weights(str(bundle / "models" / "other.pt"), bundle)


def test_metadata_without_hashes_are_refused(bundle: Path) -> None:
    metadata = bundle / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    for damaged in ({**content, "weights_sha256": 3}, {k: v for k, v in content.items() if k != "weights_sha256"}, []):
        metadata.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=r"metadata\.json: gives no weights_sha256; export the bundle again"):
            verified_weights(str(bundle / "models" / "model.pt"), bundle)


def test_weights_of_another_run_are_not_the_bundles(bundle: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    assert verified_weights(str(small_checkpoint), bundle) == str(small_checkpoint)
    with pytest.raises(InputError, match=r"is no file of torch\.save"):
        verified_weights(str(tmp_path / "model.safetensors"), bundle)
    with pytest.raises(InputError, match="checkpoint: is not given"):
        verified_weights(None, bundle)


def test_an_encoder_beside_is_not_taken_along(
    small_bundle: Path, small_checkpoint: Path, tmp_path: Path, definition: dict[str, Any], settings: dict[str, Any]
) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(small_checkpoint, tmp_path / "run" / "model.pt")
    save_encoder(tmp_path / "run" / "encoder.pt", build_network(definition), settings)
    folder = export_bundle(small_bundle, checkpoint=tmp_path / "run" / "model.pt", output=tmp_path / "dist")
    assert [file.name for file in (folder / "models").iterdir()] == ["model.pt"]
