"""Weights for others: the same to the last bit, and nothing but the same is read."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import (
    build_network,
    load_network,
    load_teachers,
    load_weights,
    save_encoder,
    save_network,
    save_released,
    save_shared,
    transfer_encoder,
    transfer_shared,
    weights_beside,
)

DEFINITION = {
    "_target_": "mtmed.networks.SmallUNet",
    "in_channels": 1,
    "out_channels": 2,
    "base_channels": 2,
    "depth": 1,
}
SETTINGS = {
    "spacing": [0.1 + 0.2, 1e-310, 4.0],
    "patch_size": [16, 16],
    "label_names": {"0": "background", "1": "Niere, linke Seite: größer"},
    "window": None,
    "trained_on": ["3f2a"],
    "labels_of": ["3f2a"],
}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(DEFINITION)


@pytest.fixture
def released(network: torch.nn.Module, tmp_path: Path) -> Path:
    save_network(tmp_path / "model.pt", network, SETTINGS)
    save_released(tmp_path / "model.safetensors", load_weights(tmp_path / "model.pt"))
    return tmp_path / "model.safetensors"


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


class TestRoundTrip:
    def test_tensors_of_every_kind_come_back_bit_for_bit(self, tmp_path: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        model: dict[str, torch.Tensor] = {
            str(kind): torch.randn(3, 5, generator=generator).to(kind)
            for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8)
        }
        model |= {
            "counter": torch.tensor(2**60 + 1),
            "flag": torch.tensor([True, False]),
            "nothing": torch.zeros(0, 4),
            "turned": torch.arange(6.0).reshape(2, 3).T,
            "negative zero": torch.tensor([-0.0, 1e-45]),
        }
        model["tied"] = model["turned"]
        content = {"model": model, "network_def": DEFINITION, "settings": {}, "kind": "shared"}
        save_released(tmp_path / "a.safetensors", content)
        found = load_weights(tmp_path / "a.safetensors")
        assert found["kind"] == "shared"
        assert found["model"].keys() == model.keys()
        for name, value in model.items():
            assert (found["model"][name].dtype, found["model"][name].shape) == (value.dtype, value.shape), name
            assert bits(found["model"][name]) == bits(value), name

    def test_a_network_comes_back_with_definition_and_settings_but_without_patients(
        self, network: torch.nn.Module, released: Path
    ) -> None:
        loaded, settings = load_network(released)
        assert settings == SETTINGS | {"trained_on": [], "labels_of": []}
        assert loaded.definition == network.definition
        for name, value in network.state_dict().items():
            assert bits(loaded.state_dict()[name]) == bits(value), name

    def test_the_same_content_gives_the_same_bytes(self, released: Path) -> None:
        save_released(released.with_name("again.safetensors"), load_weights(released))
        assert released.with_name("again.safetensors").read_bytes() == released.read_bytes()

    def test_an_encoder_and_what_pre_training_shares_are_handed_on(
        self, network: torch.nn.Module, tmp_path: Path
    ) -> None:
        for save, transfer in ((save_encoder, transfer_encoder), (save_shared, transfer_shared)):
            save(tmp_path / "run.pt", network, SETTINGS)
            save_released(tmp_path / "run.safetensors", load_weights(tmp_path / "run.pt"))
            ours, theirs = build_network(DEFINITION), build_network(DEFINITION)
            reports = transfer(ours, tmp_path / "run.pt"), transfer(theirs, tmp_path / "run.safetensors")
            assert reports[0].transferred == reports[1].transferred != ()
            for name in reports[0].transferred:
                assert bits(ours.state_dict()[name]) == bits(theirs.state_dict()[name])

    def test_a_teacher_may_be_a_released_one(self, network: torch.nn.Module, released: Path) -> None:
        (teacher,) = load_teachers([str(released)], settings=SETTINGS)
        image = torch.rand(1, 1, 16, 16)
        assert torch.equal(teacher(image), network.eval()(image))

    def test_the_second_file_beside_is_the_released_one_if_there_is_one(self, released: Path) -> None:
        assert weights_beside(released, "model") == str(released)
        assert weights_beside(released, "rough") == str(released.with_name("rough.pt"))
        assert weights_beside(None, "rough") == "rough.pt"


class TestRefusals:
    def test_every_flipped_bit_is_found(self, released: Path) -> None:
        whole = released.read_bytes()
        places = torch.randint(0, len(whole) * 8, (300,), generator=torch.Generator().manual_seed(1)).tolist()
        for place in [*range(0, 8 * 64, 5), *places, len(whole) * 8 - 1]:
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            released.write_bytes(damaged)
            with pytest.raises(InputError) as caught:
                load_weights(released)
            assert str(caught.value).startswith(f"{released}: ")
            assert "\n" not in str(caught.value)

    def test_every_cut_is_found(self, released: Path) -> None:
        whole = released.read_bytes()
        for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
            released.write_bytes(whole[:length])
            with pytest.raises(InputError, match=r"model\.safetensors: "):
                load_weights(released)

    def test_content_of_another_hash_is_refused(self, released: Path) -> None:
        whole = released.read_bytes()
        assert b"[16, 16]" in whole
        released.write_bytes(whole.replace(b"[16, 16]", b"[16, 61]", 1))
        with pytest.raises(InputError, match=r"does not match its SHA-256; copy or download it again$"):
            load_weights(released)

    @pytest.mark.parametrize(
        "file",
        [
            pytest.param(lambda whole: struct.pack("<Q", 200 * 2**20) + whole[8:], id="header of 200 MB"),
            pytest.param(lambda whole: struct.pack("<Q", 2**64 - 1) + whole[8:], id="header of 2^64 bytes"),
            pytest.param(lambda whole: struct.pack("<Q", 2**24 + 1) + b" " * (2**24 + 1), id="header of 16 MB there"),
            pytest.param(lambda whole: framed(b'{"a":' * 200_000), id="deep header"),
            pytest.param(lambda whole: framed(b"\xff\xfe"), id="no text"),
            pytest.param(lambda whole: framed(b"[]"), id="no object"),
            pytest.param(lambda whole: header(tensor("a", 0, 8), tensor("b", 4, 12), size=12), id="overlap"),
            pytest.param(lambda whole: header(tensor("a", 0, 8), tensor("b", 12, 20), size=20), id="hole"),
            pytest.param(lambda whole: header(tensor("a", 0, 8), size=4), id="beyond the end"),
            pytest.param(lambda whole: header(tensor("a", 0, 8), size=9), id="bytes left over"),
            pytest.param(lambda whole: header(tensor("a", 8, 0), size=8), id="ends before it begins"),
            pytest.param(lambda whole: header(tensor("a", 0, 8, shape=[2**62, 2**62]), size=8), id="shape overflows"),
            pytest.param(lambda whole: header(tensor("a", 0, 8, shape=[-2]), size=8), id="negative shape"),
            pytest.param(lambda whole: header({"__metadata__": {"settings": 1}}, size=0), id="metadata no text"),
            pytest.param(lambda whole: b"PK\x03\x04" + whole, id="zip"),
        ],
    )
    def test_a_hostile_header_is_refused_in_one_line(self, released: Path, file: Callable[[bytes], bytes]) -> None:
        released.write_bytes(file(released.read_bytes()))
        with pytest.raises(InputError) as caught:
            load_weights(released)
        line = str(caught.value)
        assert line.startswith(f"{released}: is damaged or not a weights file")
        assert line.endswith("; copy or download it again")
        assert "\n" not in line

    def test_a_file_of_others_is_no_weights_file(self, tmp_path: Path) -> None:
        (tmp_path / "other.safetensors").write_bytes(header(tensor("a", 0, 8), size=8))
        with pytest.raises(InputError, match="is no weights file of mtmed"):
            load_weights(tmp_path / "other.safetensors")

    def test_non_finite_weights_are_refused(self, released: Path) -> None:
        content = load_weights(released)
        next(iter(content["model"].values())).fill_(float("nan"))
        save_released(released, content)
        with pytest.raises(InputError, match="is not finite"):
            load_weights(released)

    def test_only_values_that_json_can_hold_are_released(self, tmp_path: Path) -> None:
        for settings in ({"label_names": {1: "liver"}}, {"window": {1, 2}}):
            content = {"model": {}, "network_def": DEFINITION, "settings": settings}
            with pytest.raises(InputError, match="settings are not plain values"):
                save_released(tmp_path / "a.safetensors", content)
        assert list(tmp_path.iterdir()) == []

    def test_another_ending_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"does not end in \.safetensors"):
            save_released(tmp_path / "a.pt", {"model": {}, "network_def": DEFINITION, "settings": {}})

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"gone\.safetensors: no such file"):
            load_weights(tmp_path / "gone.safetensors")


def framed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def tensor(name: str, start: int, end: int, *, shape: list[int] | None = None) -> dict[str, Any]:
    return {name: {"dtype": "F32", "shape": shape or [2], "data_offsets": [start, end]}}


def header(*tensors: dict[str, Any], size: int) -> bytes:
    text = json.dumps({name: value for one in tensors for name, value in one.items()}).encode()
    return framed(text) + bytes(size)
