"""A bundle config run in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.files import atomic_file

__all__ = ["end_with", "run_config"]

# what torchrun gives each of its processes
_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE")
_LOOK_EVERY = 0.2  # seconds


def run_config(config: Mapping[str, Any], path: Path, *, what: str, bundle: Path | None = None) -> None:
    """Write a config and run it by ``python -m monai.bundle run``, as one process of its own.

    Its lines appear among those of the caller. If the caller is interrupted or killed, the process ends too; if it is
    interrupted, after it has saved (`mtmed.interruption`).

    Args:
        config: the whole config, as plain values and expressions.
        path: file that it is written to.
        what: what is run, for messages.
        bundle: folder with the bundle's ``metadata.json`` and ``logging.conf``.

    Raises:
        InputError: if the process fails.
    """
    imports = [*config.get("imports", []), "$import mtmed", "$import mtmed.bundle.process"]
    watched = f"$mtmed.bundle.process.end_with({os.getpid()})"
    config = {**config, "imports": imports, "initialize": [watched, *config.get("initialize", [])]}
    with atomic_file(path) as file:
        file.write((json.dumps(config, indent=4, default=str) + "\n").encode())
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(path)]
    if bundle is not None:
        command += ["--meta_file", str(bundle / "metadata.json"), "--logging_file", str(bundle / "logging.conf")]
    process = subprocess.Popen(command, env=_environment())
    try:
        status = process.wait()
    except BaseException:
        # it saves and ends; a terminal interrupts both, and what comes within a second counts once
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if status:
        log = path.with_name("log.txt")
        where = f"the lines above and {log}" if log.is_file() else "the lines above"
        raise InputError(what, f"ended with status {status}", f"see {where}, then run the same command again")


def end_with(caller: int) -> None:
    """End this process as soon as the one that started it has ended, however that came about.

    A process that is killed tells nobody; what it started would go on and write beside the next attempt.

    Args:
        caller: process id of the parent.
    """

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(_LOOK_EVERY)
        # at once: what it would save now, the next attempt may write as well
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-caller", daemon=True).start()


def _environment() -> dict[str, str]:
    """The caller's environment; under torchrun as a world of one process."""
    environment = dict(os.environ)
    if "WORLD_SIZE" in environment:
        for name in _OF_TORCHRUN:
            environment.pop(name, None)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        local = os.environ.get("LOCAL_RANK", "0")
        environment |= {"RANK": "0", "LOCAL_RANK": local, "WORLD_SIZE": "1", "MASTER_PORT": str(port)}
        environment = {name: value for name, value in environment.items() if not name.startswith("TORCHELASTIC")}
    return environment
