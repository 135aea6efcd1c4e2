"""Each run has one folder, named after what the run is."""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mtmed.bundle.active import active_parser
from mtmed.bundle.folder_lock import lock_folder, unlock_folder
from mtmed.bundle.leaving import leave
from mtmed.bundle.log_file import LogFile
from mtmed.bundle.options import check_options
from mtmed.distributed import rank
from mtmed.errors import InputError
from mtmed.files import atomic_file, remove_fragments, require_writable_folder
from mtmed.networks.weights import load_checkpoint

__all__ = ["finish_run", "require_same_settings", "run_folder", "run_identity", "start_run"]

logger = logging.getLogger(__name__)

# What may differ between two starts of one run: where it runs, how long, and what only concerns its own folder.
_NOT_IN_NAME = frozenset(
    {"device", "workers", "epochs", "new", "output_dir", "bundle_root", "_meta_"}
    | {"imports", "initialize", "run", "finalize"}
    # MONAI's experiment tracking stamps the time of the start into them
    | {"tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}
)


def run_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run this run, as plain JSON values: its config without what may differ between two starts of it."""
    kept = {key: value for key, value in config.items() if key not in _NOT_IN_NAME}
    plain: dict[str, Any] = json.loads(json.dumps(kept, sort_keys=True, default=str))
    return plain


def _fingerprint(config: Mapping[str, Any]) -> str:
    text = json.dumps(run_identity(config), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def run_folder(name: str, *, root: str = "runs") -> str:
    """``root/name-<hash of the executed config>``; device, workers and length are not part of the hash.

    The same command finds its run again, another setting gets another folder.

    Args:
        name: bundle and stage, for example ``"mixcl-pretrain"``.
        root: folder of all runs.
    """
    return str(Path(root) / f"{name}-{_fingerprint(active_parser().get())}")


def start_run(output_dir: str, *, total_iterations: int | None = None, new: bool = False, next_step: str = "") -> None:
    """First item of a bundle's ``run``: check the options, open the run's folder, stop if the run is finished.

    Writes the executed config as ``config.json`` and the log as ``log.txt``. With ``new`` an earlier run of the folder
    is renamed, not removed. A training keeps others off its folder until `finish_run` or the end of the process.

    Args:
        output_dir: folder of the run.
        total_iterations: length of the run, None for what is not training.
        new: start over.
        next_step: what to say of a finished run.

    Raises:
        InputError: for unknown options, a length below 1, a device that is not there, a folder that cannot be written,
            that another process trains in, or that holds the checkpoint of a run with other settings.
        SystemExit: with status 0, if the run is finished.
    """
    check_options()
    if total_iterations is not None and (not isinstance(total_iterations, int) or total_iterations < 1):
        problem = f"give {total_iterations!r} iterations"
        raise InputError("epochs and iterations_per_epoch", problem, "give whole numbers of 1 or more")
    _check_device()
    folder = Path(output_dir)
    if rank() != 0:
        _stop_if_finished(folder, total_iterations, new, next_step)
        return
    trains = total_iterations is not None
    try:
        if new and folder.is_dir():
            if trains:
                lock_folder(folder)
            _set_aside(folder)
        require_writable_folder(folder, option="output_dir")
        _refuse_other_settings(folder)
        _stop_if_finished(folder, total_iterations, new, next_step)
        if trains:
            lock_folder(folder)
        _sweep(folder)
        config = json.dumps(active_parser().get(), indent=4, default=str)
        with atomic_file(folder / "config.json") as file:
            file.write((config + "\n").encode())
        handler = LogFile(folder / "log.txt")
    except OSError as error:
        problem = f"{folder} cannot be written ({error.strerror or error})"
        raise InputError("output_dir", problem, "name a folder that you may write to with --output_dir") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logger.info("Run folder: %s", folder)


def _check_device() -> None:
    """Refuse a device that this machine does not have, before time is spent on the data."""
    parser = active_parser()
    given = parser.get_parsed_content("device") if "device" in parser else "cpu"
    try:
        device = torch.device(given)
    except (RuntimeError, TypeError) as error:
        raise InputError("device", f"is {given!r}, which is no device", "use cpu, cuda or cuda:<number>") from error
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise InputError("device", f"is {device}, but there is no GPU here", "use --device cpu")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise InputError("device", f"is {device}, but GPUs here end at cuda:{count - 1}", "use one of these")


def finish_run(next_step: str) -> None:
    """Last item of a bundle's ``run``: let others use the folder, and say what to run next."""
    unlock_folder()
    if rank() == 0:
        logger.info("%s", next_step)


def _refuse_other_settings(folder: Path) -> None:
    """A checkpoint goes on only with the settings it was made with."""
    path = folder / "config.json"
    if not (path.is_file() and (folder / "checkpoint.pt").is_file()):
        return
    require_same_settings(folder, json.loads(path.read_text()), active_parser().get())


def require_same_settings(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Require that two configs are of the same run.

    Args:
        folder: the run's folder.
        before: the config with which the run in the folder began.
        now: the config that is to go on with it.

    Raises:
        InputError: naming a key in which they differ.
    """
    before, now = run_identity(before), run_identity(now)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            values = f"{before.get(key)!r} there, {now.get(key)!r} now"
            if len(values) > 80:
                values = "see its config.json"
            problem = f"{folder} holds a run with another {key} ({values})"
            raise InputError("output_dir", problem, "use another --output_dir, or start over with --new true")


def _stop_if_finished(folder: Path, total_iterations: int | None, new: bool, next_step: str) -> None:
    path = folder / "checkpoint.pt"
    if new or total_iterations is None or not path.is_file():
        return
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.get("iteration"), int):
        raise InputError(path, "is no checkpoint of a run", "move it away, or start over with --new true")
    stopped = checkpoint.get("stopped", False)
    ended = checkpoint["iteration"] >= total_iterations and checkpoint.get("epoch_ended", True)
    if ended or stopped:
        if rank() == 0:
            remark = "it stopped early; another --patience is another run; " if stopped else ""
            logger.info("This run is finished: %s (%sstart over with --new true). %s", folder, remark, next_step)
        leave()
        raise SystemExit(0)


def _set_aside(folder: Path) -> None:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    shutil.move(folder, aside)
    logger.info("The earlier run was renamed to %s", aside)


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    # not every folder below: the output_dir of a prediction may hold other runs, which write now
    for place in (folder, folder / "predictions", folder / "overlays"):
        remove_fragments(place)
