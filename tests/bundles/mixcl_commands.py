"""Commands of MixCL as they are typed, and the program that gets them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mixcl_inputs import (
    TINY,
    write_json,
)

__all__ = ["command", "run_program"]

ROOT = Path(__file__).parents[2]


def command(folder: Path, config: str, *arguments: str) -> list[str]:
    """What the user types. The options of the tiny run stand in an args file, so that arguments can replace them.

    ``+file`` adds an overlay, ``@file`` the content of a file to the args file.
    """
    options: dict[str, Any] = {"dataset_dir": str(folder / "cohort"), "output_dir": str(folder / "out")}
    if config in ("pretrain", "finetune"):
        options |= TINY | {"store_dir": str(folder / "store")}
    if config == "finetune":
        options |= {"folds": 2, "val_interval": 1}
    files, typed = [str(ROOT / "bundles" / "mixcl" / f"{config}.json")], []
    for argument in (argument.replace("{}", str(folder)) for argument in arguments):
        if argument.startswith("+"):
            files.append(argument[1:])
        elif argument.startswith("@/"):
            options |= json.loads(Path(argument[1:]).read_text())
        else:
            typed.append(argument)
    write_json(folder / "options.json", options)
    config_file = files[0] if len(files) == 1 else str(files)
    return ["--config_file", config_file, "--args_file", str(folder / "options.json"), *typed]


def run_program(arguments: list[str], **options: Any) -> tuple[int, list[str], str]:
    """Status, lines on stderr without MONAI's warning that a config is a program, and stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    of_monai = re.compile(r"UserWarning: parsing config_file|^ +workflow = create_workflow\($")
    return done.returncode, [line for line in done.stderr.splitlines() if not of_monai.search(line)], done.stdout
