"""A bundle config run in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

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
    assert json.loads((tmp_path / "c.json").read_text())["imports"][0] == "$import pathlib"


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


# starts a config that sleeps, tells its process id, and is killed
CALLER = """
import pathlib, sys
from mtmed.bundle.process import run_config
told = sys.argv[1]
run = [f"$pathlib.Path({told!r}).write_text(str(os.getpid()))", "$time.sleep(600)"]
imports = ["$import os", "$import pathlib", "$import time"]
run_config({"imports": imports, "run": run}, pathlib.Path(told).with_name("c.json"), what="it")
"""


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT],
    ids=lambda number: number.name,
)
def test_the_process_ends_with_its_caller(number, tmp_path):
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("started in the background, where interrupts are ignored")
    told = tmp_path / "process"
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(told)], stderr=subprocess.DEVNULL)
    until(lambda: told.is_file() and told.read_text())
    inner = int(told.read_text())
    assert lives(inner)
    caller.send_signal(number)
    assert caller.wait(60) != 0
    until(lambda: not lives(inner))


def until(true, patience=60.0):
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def lives(process):
    """Whether a process is there and is no zombie that nobody waits for."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
