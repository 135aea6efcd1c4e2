"""The command line in processes that are forked from one that has imported what takes seconds."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ForkedProgram"]

# mtmed.bundle looks at what the program is when it is imported, and so is left to each process
PARENT = """
import gc, importlib.util, json, os, sys
import fire, ignite.handlers, monai.bundle, torch.utils.tensorboard
import mtmed.cli, mtmed.data, mtmed.data.demo, mtmed.engines, mtmed.handlers, mtmed.inferers, mtmed.losses
import mtmed.metrics, mtmed.networks, mtmed.submission, mtmed.tasks, mtmed.transforms
from monai.bundle.__main__ import *

assert "mtmed.bundle" not in sys.modules
sys.modules["__main__"].__spec__ = importlib.util.find_spec("monai.bundle.__main__")
gc.freeze()
print("ready", flush=True)
while line := sys.stdin.readline():
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        sys.stdin.close()
        for stream, file in ((1, order["stdout"]), (2, order["stderr"])):
            os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), stream)
        program, *words = order["words"]
        if program == "monai.bundle":
            fire.Fire(command=words)
            sys.exit(0)
        sys.exit(mtmed.cli.main(words))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkedProgram:
    """Runs one command after the other, each in a new process of one that has done the imports.

    Args:
        folder: where the commands run.
        environment: of all of them.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def run(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run ``python -m`` with these words."""
        with tempfile.TemporaryDirectory() as folder:
            streams = {name: os.path.join(folder, name) for name in ("stdout", "stderr")}
            assert self.parent.stdin is not None
            self.parent.stdin.write(json.dumps({"words": list(words), **streams}) + "\n")
            self.parent.stdin.flush()
            status = int(self._answer())
            printed = {name: Path(file).read_text() for name, file in streams.items()}
        return subprocess.CompletedProcess(list(words), status, **printed)

    def close(self) -> None:
        """End it."""
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.close()
        self.parent.wait()
        self.parent.stdout.close()

    def _answer(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().strip()
