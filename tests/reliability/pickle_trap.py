"""Runs Python in a process in which reading a pickle is reported and stops, but for what passes between processes."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["run_trapped", "sprung"]

# taken over by every Python that is started from there, before anything else is imported
TRAP = """
import _pickle, pickle, sys, traceback

# pipes between a process and those that it started; what unpickles there has read no file
PIPES = ("multiprocessing", "torch.multiprocessing")

def check():
    caller = sys._getframe(2)
    name = caller.f_globals.get("__name__", "")
    if name.split(".")[0] != "multiprocessing" and not name.startswith(PIPES):
        with open({report!r}, "a") as file:
            file.write("".join(traceback.format_stack(caller)) + "----\\n")
        raise RuntimeError("a pickle was read by " + name)

def trapped(function):
    def trap(*args, **kwargs):
        check()
        return function(*args, **kwargs)
    return trap

def trapped_class(kind):
    class Unpickler(kind):
        def __init__(self, *args, **kwargs):
            check()
            super().__init__(*args, **kwargs)
    return Unpickler

for module in (pickle, _pickle):
    for name in ("load", "loads", "_load", "_loads"):
        if hasattr(module, name):
            setattr(module, name, trapped(getattr(module, name)))
    for name in ("Unpickler", "_Unpickler"):
        if hasattr(module, name):
            setattr(module, name, trapped_class(getattr(module, name)))
"""


def run_trapped(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python *words`` with the trap, in it and in all processes that it starts.

    Args:
        folder: where the trap and its report lie, see `sprung`.
        *words: arguments of Python.
    """
    place = folder / "trap"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(TRAP.replace("{report!r}", repr(str(folder / "sprung.txt"))))
    path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=540
    )


def sprung(folder: Path) -> str:
    """Who read a pickle, as stacks of calls; empty if nobody did."""
    report = folder / "sprung.txt"
    return report.read_text() if report.is_file() else ""
