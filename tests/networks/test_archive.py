"""Each bit of a weights file is either what was written, or refused, or of no meaning."""

import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mtmed.errors import InputError
from mtmed.networks import load_checkpoint

FLIPS = 500


@pytest.fixture
def weights() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"layer{n}.weight": torch.randn(8, 8, generator=generator) for n in range(3)}
    return {"model": tensors, "settings": {"spacing": [1.0, 2.0, 3.0], "modalities": ["CT"]}, "epoch": 7}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    plain = all(one.get(key) == other[key] for key in ("settings", "epoch"))
    tensors = other["model"].items()
    return (
        plain and set(one["model"]) == set(other["model"]) and all(torch.equal(one["model"][k], v) for k, v in tensors)
    )


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path, weights: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    torch.save(weights, path)
    whole = path.read_bytes()
    assert equal(load_checkpoint(path), weights)
    refused = 0
    for bit in random.Random(0).sample(range(8 * len(whole)), FLIPS):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            content = load_checkpoint(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            refused += 1
        else:
            assert equal(content, weights), f"bit {bit}"
    assert refused > FLIPS / 8  # the small records lie in padding to 64 bytes, which is harmless


def test_a_flipped_bit_of_a_weight_is_said_to_be_damage(tmp_path: Path, weights: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    torch.save(weights, path)
    whole = bytearray(path.read_bytes())
    place = whole.index(weights["model"]["layer1.weight"].numpy().tobytes())
    whole[place + 5] ^= 1
    path.write_bytes(whole)
    assert not torch.equal(
        torch.load(path, weights_only=True)["model"]["layer1.weight"], weights["model"]["layer1.weight"]
    )
    with pytest.raises(
        InputError, match=r"model\.pt: is damaged: the checksum of its record data/1 does not match; copy"
    ):
        load_checkpoint(path)


def test_a_record_that_could_unpack_to_more_than_its_file_is_refused(tmp_path: Path, weights: dict[str, Any]) -> None:
    path, bomb = tmp_path / "model.pt", tmp_path / "bomb.pt"
    torch.save({**weights, "more": torch.zeros(1_000_000)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for record in whole.infolist():
            packed.writestr(record.filename, whole.read(record))
    assert bomb.stat().st_size < path.stat().st_size / 100
    assert len(torch.load(bomb, weights_only=True)["more"]) == 1_000_000
    with pytest.raises(InputError, match=r"bomb\.pt: is damaged or not a weights file"):
        load_checkpoint(bomb)
