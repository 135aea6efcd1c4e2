"""Runs a bundle in the test's own process."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle.scripts import run

__all__ = ["BUNDLE", "run_in_process"]

BUNDLE = Path(__file__).parents[2] / "bundles" / "mixcl"


def run_in_process(stage: str, given: Mapping[str, Any], *overlays: str, bundle: Path = BUNDLE) -> Path:
    """Run a bundle as the command line does, and take back what it changes in the process."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level, state = list(root.handlers), root.level, torch.are_deterministic_algorithms_enabled()
    try:
        files = [str(bundle / f"{name}.json") if not name.endswith(".json") else name for name in (stage, *overlays)]
        run(config_file=files, **given)
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.excepthook = hook
        torch.use_deterministic_algorithms(state)
    return Path(given["output_dir"])
