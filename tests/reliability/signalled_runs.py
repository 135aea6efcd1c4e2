"""Starts commands of the bundles as MONAI's program does, and asks them to end at some moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["Program"]

# imports once and forks a process for each start; the child behaves as ``python -m monai.bundle``
PROGRAM = """
import json, os, signal, sys, fire, torch, torch._inductor, monai.bundle
from importlib.machinery import ModuleSpec
import mtmed.bundle, mtmed.data.demo, mtmed.engines, mtmed.handlers, mtmed.inferers
from mtmed.bundle import messages
from monai.bundle.__main__ import *

print("ready", flush=True)
while line := sys.stdin.readline():
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        for name, stream in (("out", 1), ("err", 2)):
            os.dup2(os.open(order[name], os.O_CREAT | os.O_APPEND | os.O_WRONLY), stream)
        # as in a terminal, also if the tests run in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.modules["__main__"].__spec__ = ModuleSpec("monai.bundle.__main__", None)
        messages.install()
        fire.Fire(command=order["words"])
        sys.exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}


class Program:
    """Runs one command after the other, each in a new process.

    Attributes:
        seconds: how long the last command took, or from the signal to its end if it was asked to end.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def run(
        self, words: list[str], out: Path, *, number: int | None = None, delay: float = 0.0, until: str = ""
    ) -> int:
        """Exit status of a command; its output is appended to ``out`` and ``out.err``.

        Args:
            words: of the command, beginning with "run".
            out: file for standard output.
            number: signal that it is sent, if it still runs then.
            delay: seconds after which it is sent.
            until: text in the output from which on the delay is counted; by default from the start.
        """
        out.touch()
        before = len(out.read_text())
        order = {"words": list(words), "out": str(out), "err": f"{out}.err"}
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps(order) + "\n")
        self.parent.stdin.flush()
        process, started = int(self._answer()), time.monotonic()
        if number is not None:
            while until and until not in out.read_text()[before:] and time.monotonic() < started + 300:
                time.sleep(0.002)
            time.sleep(delay)
            started = time.monotonic()
            # it may have ended: the parent has not waited for its answer to be read, but the number is not used again
            with_process = Path(f"/proc/{process}")
            if with_process.exists():
                os.kill(process, number)
        status = int(self._answer())
        self.seconds = time.monotonic() - started
        return status

    def close(self) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.close()
        self.parent.wait(300)
        assert self.parent.stdout is not None
        self.parent.stdout.close()

    def _answer(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().strip()


def ended_by(number: int) -> int:
    """Exit status of a run that a signal has ended: as shells see it, 130 after Ctrl-C, else 75."""
    return -signal.SIGINT if number == signal.SIGINT else 75
