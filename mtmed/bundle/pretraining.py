"""Pre-training that a run needs, as a run of its own inside the run's folder."""

import copy
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from mtmed.bundle.active import active_parser, command_line
from mtmed.bundle.process import run_config
from mtmed.bundle.run_folder import require_same_settings
from mtmed.distributed import barrier, rank
from mtmed.errors import InputError

__all__ = ["pretraining"]

logger = logging.getLogger(__name__)

_CONFIG = "pretraining.json"


def pretraining(
    output_dir: str | Path, *, overrides: Mapping[str, Any], weights: str = "shared.pt", when: bool = True
) -> str | None:
    """Pre-train by the running config with overrides, in a process of its own, unless that has been done.

    The folder is ``pretraining/`` in that of the run, so that starting the run over starts this over too. A
    pre-training that was interrupted goes on from its checkpoint; so does a finished one if `epochs` has changed and
    the run itself has no checkpoint yet. Once it has, its start is kept whatever `epochs` is.

    Args:
        output_dir: folder of the run.
        overrides: what the pre-training's config has in place of the running one's.
        weights: name of the file that the pre-training writes, see `mtmed.handlers.SharedWeightsWriter`.
        when: False for a run that needs none, as the pre-training itself, whose config is the same: MONAI evaluates
            what an expression refers to even where its value is not used.

    Returns:
        Path of that file; None if there is no pre-training.

    Raises:
        ValueError: the pre-training asks for a pre-training of its own.
        InputError: the folder holds a pre-training with other settings, the pre-training fails, or it has ended and its
            file is missing.
    """
    if not when:
        return None
    if (Path(output_dir) / _CONFIG).is_file():
        given = f"overrides are {dict(overrides)}, with which pre-training asks for pre-training"
        raise ValueError(f"{given}; allowed are such that 'when' is false; override what it depends on.")
    folder = Path(output_dir) / "pretraining"
    written = folder / weights
    # the run's folder has been set aside by now, if all is to begin anew
    own = {"output_dir": str(folder), "new": False}
    config = {**copy.deepcopy(dict(active_parser().get())), **overrides, **own}
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            _run_unless_finished(config, folder, written, begun=(Path(output_dir) / "checkpoint.pt").is_file())
    barrier()
    return str(written)


def _run_unless_finished(config: dict[str, Any], folder: Path, weights: Path, *, begun: bool) -> None:
    path, finished = folder / _CONFIG, folder / "finished"
    before = json.loads(path.read_text()) if path.is_file() else {}
    if before and (folder / "checkpoint.pt").is_file():
        require_same_settings(folder, before, config)
    if finished.is_file() and weights.is_file() and (begun or before.get("epochs") == config.get("epochs")):
        logger.info("Pre-training: found in %s", folder)
        return
    logger.info("Pre-training: %s", folder)
    finished.unlink(missing_ok=True)
    given = command_line()
    bundle = Path(given.config_files[0]).parent if given and given.config_files else None
    run_config(config, path, what="pre-training", bundle=bundle)
    if not weights.is_file():
        problem = "is missing though the pre-training has ended"
        raise InputError(weights, problem, f"remove {folder} and run the same command again")
    finished.touch()
