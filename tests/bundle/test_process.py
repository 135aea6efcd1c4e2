"""A bundle config run in a process of its own."""

import json

import pytest

from mtmed.bundle.process import _environment, run_config
from mtmed.errors import InputError


def test_the_config_is_written_and_run(tmp_path):
    target = tmp_path / "made.txt"
    run_config(
        {"imports": ["$import pathlib"], "run": [f"$pathlib.Path({str(target)!r}).touch()"]},
        tmp_path / "c.json",
        what="it",
    )
    assert target.is_file()
    assert json.loads((tmp_path / "c.json").read_text())["imports"] == ["$import pathlib"]


def test_a_failure_names_what_failed(tmp_path):
    with pytest.raises(InputError, match="rough network 1: ended with status 3"):
        run_config({"imports": ["$import sys"], "run": ["$sys.exit(3)"]}, tmp_path / "c.json", what="rough network 1")


def test_under_torchrun_the_process_is_a_world_of_its_own(monkeypatch):
    given = {"RANK": "2", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_PORT": "29500", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**given, "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    inner = _environment()
    assert (inner["RANK"], inner["WORLD_SIZE"], inner["LOCAL_RANK"]) == ("0", "1", "1")
    assert inner["MASTER_PORT"] != "29500"
    assert "TORCHELASTIC_RUN_ID" not in inner


def test_without_torchrun_the_environment_stays(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert "MASTER_PORT" not in _environment()
