"""Runs a bundle in processes that can be killed, and tells what two runs must agree in."""

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mtmed.networks.weights import load_checkpoint, load_weights

__all__ = ["WEIGHTS_FILES", "Launcher", "group_lives", "run_facts"]

# imports once and forks a process for each start, which saves seconds a time; several ranks are torchrun's own agent
LAUNCHER = """
import json, os, sys, fire, torch, torch._inductor, monai.bundle
import mtmed.bundle, mtmed.data.demo, mtmed.engines, mtmed.handlers, mtmed.inferers
from monai.bundle.__main__ import *
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def one_rank(order):
    with open(f"{order['log']}.rank{os.environ['RANK']}", "w") as file:
        file.write(str(os.getpid()))
    fire.Fire(command=order["words"])

print("ready", flush=True)
while line := sys.stdin.readline():
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        log = os.open(order["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        if order["ranks"] > 1:
            config = LaunchConfig(1, 1, order["ranks"], run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
                                  max_restarts=order["restarts"], start_method="fork")
            elastic_launch(config, one_rank)(order)
        else:
            fire.Fire(command=order["words"])
        sys.exit(0)
    try:
        os.setpgid(child, child)
    except (PermissionError, ProcessLookupError):
        pass  # it did so itself
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
PATIENCE = 300  # seconds
WEIGHTS_FILES = ("encoder.pt", "shared.pt", "model.pt", "last.pt", "rough.pt")


class Launcher:
    """Runs one command after the other, each in a new process with a process group of its own.

    Attributes:
        process: id of the last one and of its group.
    """

    def __init__(self) -> None:
        self.process = 0
        self.parent = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        return self.parent.stdout.readline().decode().strip()

    def start(self, words: list[str], log: Path, *, ranks: int = 1, restarts: int = 0) -> None:
        """Begin a command; with several ranks each writes its process id to ``<log>.rank<number>``.

        Args:
            words: the command line behind ``python -m monai.bundle``.
            log: what it says is appended to this file.
            ranks: gloo processes that train together, under torchrun's agent.
            restarts: of all ranks, after one has failed.
        """
        log.touch()
        order = {"words": words, "log": str(log), "ranks": ranks, "restarts": restarts}
        self.parent.stdin.write((json.dumps(order) + "\n").encode())
        self.process = int(self.answer())

    def ended(self) -> bool:
        """Whether the command has ended by itself."""
        return bool(select.select([self.parent.stdout], [], [], 0)[0])

    def kill(self) -> None:
        """SIGKILL for the command and all that it started, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)

    def wait(self) -> int:
        """Exit status; a killed command's children have ended too."""
        status, end = int(self.answer()), time.monotonic() + PATIENCE
        while group_lives(self.process) and time.monotonic() < end:
            time.sleep(0.005)
        return status

    def run(self, words: list[str], log: Path, *, kill_after: int | None = None, delay: float = 0.0) -> int:
        """Exit status of a command; killed some time after that many further epoch lines."""
        log.touch()
        lines = log.read_text().count("\nepoch ")
        self.start(words, log)
        if kill_after is not None:
            end = time.monotonic() + PATIENCE
            while log.read_text().count("\nepoch ") < lines + kill_after and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(delay)
            self.kill()
        return self.wait()

    def close(self) -> None:
        self.parent.stdin.close()
        self.parent.wait(PATIENCE)
        self.parent.stdout.close()


def group_lives(group: int) -> bool:
    """Whether a process group has a member that has not ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member = status.read_text().rpartition(")")[2].split()[:3]
            if int(member) == group and state not in "ZX":
                return True
    return False


def _digest(tensors: dict[str, Any]) -> str:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return sha.hexdigest()


def _flat(content: Any, name: str = "") -> dict[str, Any]:
    """Every value of nested dictionaries and lists; tensors as their bits."""
    if isinstance(content, torch.Tensor):
        return {name: f"{content.dtype} {tuple(content.shape)} {_digest({'': content})}"}
    if isinstance(content, Mapping):
        parts = [(f"{name}/{key}", value) for key, value in content.items()]
    elif isinstance(content, list | tuple):
        parts = [(f"{name}/{number}", value) for number, value in enumerate(content)]
    else:
        return {name: repr(content)}
    return {key: value for part, below in parts for key, value in _flat(below, part).items()}


def run_facts(folder: Path) -> dict[str, Any]:
    """Everything in which two runs must agree: weights, all that the checkpoint holds, tables."""
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    files = [name for name in WEIGHTS_FILES if (folder / name).exists()]
    known = ("losses.csv", "scores.csv", "summary.json", "sides.csv", "best.json")
    tables = [name for name in known if (folder / name).exists()]
    return {
        **_flat(checkpoint, "checkpoint"),
        **{name: _digest(load_weights(folder / name)["model"]) for name in files},
        **{name: (folder / name).read_bytes() for name in tables},
    }
