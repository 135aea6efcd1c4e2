"""Runs a bundle in processes that can be killed, and tells what two runs must agree in."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mtmed.networks.weights import load_checkpoint, load_weights

__all__ = ["Launcher", "run_facts"]

# imports once and forks a process for each start, which saves seconds a time
LAUNCHER = """
import json, os, sys, fire, torch, torch._inductor, monai.bundle
import mtmed.bundle, mtmed.data.demo, mtmed.engines, mtmed.handlers, mtmed.inferers
from monai.bundle.__main__ import *

print("ready", flush=True)
while line := sys.stdin.readline():
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(order["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        fire.Fire(command=order["words"])
        sys.exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
PATIENCE = 300  # seconds


class Launcher:
    """Runs one command after the other, each in a new process."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        return self.parent.stdout.readline().strip()

    def run(self, words: list[str], log: Path, *, kill_after: int | None = None, delay: float = 0.0) -> int:
        """Exit status of a command; killed some time after that many further epoch lines."""
        log.touch()
        lines = log.read_text().count("\nepoch ")
        self.parent.stdin.write(json.dumps({"words": words, "log": str(log)}) + "\n")
        self.parent.stdin.flush()
        process = int(self.answer())
        if kill_after is not None:
            end = time.monotonic() + PATIENCE
            while log.read_text().count("\nepoch ") < lines + kill_after and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(delay)
            os.kill(process, signal.SIGKILL)
        return int(self.answer())

    def close(self) -> None:
        self.parent.stdin.close()
        self.parent.wait(PATIENCE)
        self.parent.stdout.close()


def _digest(tensors: dict[str, Any]) -> str:
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return sha.hexdigest()


def run_facts(folder: Path) -> dict[str, Any]:
    """Everything in which two runs must agree."""
    checkpoint = load_checkpoint(folder / "checkpoint.pt")
    moments = {f"{k}/{n}": v for k, state in checkpoint["optimizer"]["state"].items() for n, v in state.items()}
    files = [name for name in ("encoder.pt", "shared.pt", "model.pt", "last.pt") if (folder / name).exists()]
    known = ("losses.csv", "scores.csv", "summary.json", "sides.csv", "best.json")
    tables = [name for name in known if (folder / name).exists()]
    return {
        "weights": _digest(checkpoint["model"]),
        "optimiser": _digest(moments),
        "best": (checkpoint.get("best_metric"), checkpoint.get("best_metric_epoch")),
        "iteration": checkpoint["iteration"],
        **{name: _digest(load_weights(folder / name)["model"]) for name in files},
        **{name: (folder / name).read_bytes() for name in tables},
    }
