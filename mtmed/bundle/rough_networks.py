"""Training of the rough lesion networks that a run needs, before the run itself."""

import copy
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from mtmed.bundle.active import active_parser, command_line
from mtmed.bundle.process import run_config
from mtmed.bundle.run_folder import run_identity
from mtmed.data import Case
from mtmed.data.file_state import file_state
from mtmed.distributed import barrier, rank
from mtmed.errors import InputError
from mtmed.files import atomic_file
from mtmed.inferers.rough_lesions import GROUND_TRUTH

__all__ = ["MERGED_LESIONS", "keep_rough_network", "rough_networks"]

logger = logging.getLogger(__name__)

MERGED_LESIONS = ("out_of_fold", "in_sample", "ground_truth", "none")


def rough_networks(
    cases: Sequence[Case],
    *,
    lesions: str,
    folds: int,
    folder: str | Path,
    overrides: Mapping[str, Any],
    output_dir: str | Path,
) -> dict[str, str]:
    """Train the rough lesion networks of a run, each by the running config in a process of its own.

    One network is trained on all training cases: it serves validation and inference, and its weights are kept in the
    run's folder as ``rough.pt``. With ``out_of_fold`` the patients are dealt into folds, and one more network per fold
    is trained without its patients. Finished networks are found again (by the hash of their config and of what their
    training cases' files are), so that variants of one fold share them; unfinished ones go on from their checkpoint.

    Args:
        cases: the training cases.
        lesions: which lesions are merged into the training cases' white matter: ``out_of_fold`` predictions,
            ``in_sample`` predictions (of the network trained on all of them), ``ground_truth`` (their labels: a leak,
            as a control), or ``none``.
        folds: number of parts of ``out_of_fold``; at most the number of patients.
        folder: where the networks are kept.
        overrides: what the rough network's config has in place of the running one's.
        output_dir: folder of the run.

    Returns:
        Checkpoint of each training case by its key, and under ``""`` that of all others, for
        `mtmed.inferers.RoughLesionsd`; empty for ``none``.

    Raises:
        InputError: for an unknown choice, too few patients, or a training that fails.
    """
    if lesions not in MERGED_LESIONS:
        raise InputError("merged_lesions", f"is {lesions!r}", f"choose one of {', '.join(MERGED_LESIONS)}")
    if lesions == "none":
        return {}
    patients = sorted({_patient(case) for case in cases})
    parts: list[list[str]] = [[]]
    if lesions == "out_of_fold":
        if folds < 2:
            raise InputError("rough_folds", f"is {folds}", "give a whole number of 2 or more")
        if len(patients) < 2:
            problem = "cannot be out_of_fold with one training patient"
            raise InputError("merged_lesions", problem, "use --merged_lesions in_sample")
        count = min(folds, len(patients))
        parts += [patients[number::count] for number in range(count)]
    config = copy.deepcopy(dict(active_parser().get()))
    checkpoints: dict[str, str] = {}
    for number, held_out in enumerate(parts, 1):
        name = f"rough lesion network {number} of {len(parts)}"
        kept = [case for case in cases if _patient(case) not in held_out]
        path = _train({**config, **overrides}, held_out, kept, Path(folder), name)
        if not held_out:
            checkpoints[""] = path
        checkpoints |= {case.key: path for case in cases if _patient(case) in held_out}
    if lesions == "ground_truth":
        checkpoints |= {case.key: GROUND_TRUTH for case in cases}
    if rank() == 0:
        keep_rough_network(checkpoints[""], output_dir)
    return checkpoints


def keep_rough_network(checkpoint: str | Path, output_dir: str | Path) -> None:
    """Copy the rough network into a run's folder, where inference and export look for it."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)  # an app may ask a config for its data without starting the run
    with open(checkpoint, "rb") as source, atomic_file(folder / "rough.pt") as target:
        shutil.copyfileobj(source, target)


def _train(config: dict[str, Any], held_out: list[str], cases: Sequence[Case], folder: Path, name: str) -> str:
    """Train one network, unless that has been done; returns its weights file."""
    config = {**config, "held_out_patients": held_out}
    # the manifest may have changed behind its path, and with it who is in which fold
    files = [
        [case.key, case.group, [path is None for path in case.image], len(case.labels), list(case.maps)]
        + [file_state(path) for path in case.files]
        for case in cases
    ]
    identity = json.dumps({**run_identity(config), "epochs": config["epochs"], "files": files}, sort_keys=True)
    output_dir = folder / hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    weights = output_dir / "last.pt"
    if rank() == 0:
        output_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(output_dir / ".lock"):
            if (output_dir / "finished").is_file() and weights.is_file():
                logger.info("%s: found in %s", name.capitalize(), output_dir)
            else:
                without = f" without {', '.join(held_out)}" if held_out else " on all training cases"
                logger.info("%s%s: %s", name.capitalize(), without, output_dir)
                given = command_line()
                bundle = Path(given.config_files[0]).parent if given and given.config_files else None
                config = {**config, "output_dir": str(output_dir)}
                run_config(config, output_dir / "rough.json", what=name, bundle=bundle)
                (output_dir / "finished").touch()
    barrier()
    return str(weights)


def _patient(case: Case) -> str:
    """A patient's name that is unique over data sets, as a config's ``held_out_patients`` has it."""
    return f"{case.dataset}/{case.group}"
