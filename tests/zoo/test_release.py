"""``mtmed release``: a run's weights file for others."""

import hashlib
from pathlib import Path

import pytest
import torch

from mtmed.cli import main
from mtmed.networks import load_network


def test_the_command_writes_safetensors_and_says_its_hash(
    small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "sub" / "student.safetensors"
    assert main(["release", str(small_checkpoint), "--output", str(target)]) == 0
    written = capsys.readouterr().out
    assert f"sha256: {hashlib.sha256(target.read_bytes()).hexdigest()}" in written
    ours, theirs = load_network(small_checkpoint), load_network(target)
    assert theirs[1] == ours[1]
    for name, value in ours[0].state_dict().items():
        assert torch.equal(theirs[0].state_dict()[name], value), name


@pytest.mark.parametrize(
    ("weights", "output", "line"),
    [
        ("there.pt", "taken.safetensors", "taken.safetensors: exists already; remove it, or pass another --output"),
        ("there.pt", "model.pickle", "model.pickle: does not end in .safetensors; name such a file"),
        ("gone.pt", "new.safetensors", "gone.pt: no such file; "),
        ("empty.pt", "new.safetensors", "empty.pt: is empty; "),
    ],
)
def test_what_cannot_be_released_is_one_line_and_writes_nothing(
    small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: str, output: str, line: str
) -> None:
    (tmp_path / "there.pt").write_bytes(small_checkpoint.read_bytes())
    (tmp_path / "taken.safetensors").write_bytes(b"kept")
    (tmp_path / "empty.pt").touch()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert main(["release", str(tmp_path / weights), "--output", str(tmp_path / output)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{tmp_path}/{line}")
    assert error.count("\n") == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
