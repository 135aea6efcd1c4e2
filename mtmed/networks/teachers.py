"""The teachers of a student, from their weights files."""

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from mtmed.errors import InputError
from mtmed.networks.agreeing_settings import require_agreement
from mtmed.networks.weights import load_network, sha256_of

__all__ = ["load_teachers", "teacher_hashes"]

_SEEN_ALIKE = (
    "organs",
    "label_names",
    "modalities",
    "image_size",
    "normalise_per",
    "slice_offsets",
    "features",
    "spacing",
    "window",
)
_REMEDY = "give teachers that were trained with the student's options"
_KEY_OF_JOB = re.compile(r"-[0-9a-f]{16}$")


def load_teachers(paths: Sequence[str], *, settings: Mapping[str, Any]) -> list[nn.Module]:
    """Load the networks that a student learns from; they may be of other classes than the student.

    Args:
        paths: their weights files.
        settings: those that the student's weights file will have. Of these, what the network is shown and what it
            segments must be the same; patches may have another size, unless the teacher takes one size only.

    Returns:
        The networks in evaluation mode, in the order of the paths.

    Raises:
        InputError: if there is no path, a file is missing (with the job of a study that makes it, if it lies in a
            study's folder) or cannot be read, or its network segments other organs or wants other images.
    """
    _require_files(paths)
    return [_load(path, settings) for path in paths]


def teacher_hashes(paths: Sequence[str]) -> list[str]:
    """SHA-256 of each teacher's weights file, for the settings of the student's.

    Raises:
        InputError: if there is no path or a file is missing, as `load_teachers` says it.
    """
    _require_files(paths)
    return [sha256_of(path) for path in paths]


def _require_files(paths: Sequence[str]) -> None:
    if isinstance(paths, str) or not paths:
        remedy = """pass --teachers "['runs/<run>/model.pt','runs/<other run>/model.pt']\""""
        raise InputError("teachers", f"is {paths!r}, a student has at least one", remedy)
    for place, path in enumerate(paths):
        if not isinstance(path, str | PathLike):
            raise InputError("teachers", f"has {path!r}, which is no path", "name weights files")
        if path in paths[:place]:
            raise InputError("teachers", f"has {path} twice", "name each once")
        if not Path(path).is_file():
            raise InputError(path, "no such teacher", _how_to_make(Path(path).resolve()))


def _load(path: str, settings: Mapping[str, Any]) -> nn.Module:
    network, own = load_network(path)
    require_agreement(path, own, settings, _SEEN_ALIKE, whose="the student", remedy=_REMEDY)
    patch, its_patch = settings.get("patch_size"), own.get("patch_size")
    fixed: Any = getattr(network, "image_size", None)
    other_axes = len(patch or ()) != len(its_patch or ())
    other_size = patch and fixed is not None and list(fixed) != list(patch)
    if other_axes or other_size:
        problem = f"was trained with patch_size {its_patch}, the student with {patch}"
        raise InputError(path, problem, _REMEDY)
    return network


def _how_to_make(path: Path) -> str:
    """The remedy for a missing file, its links followed: in a study's folder the job that makes it."""
    folders = path.parts
    if "jobs" in folders[:-1]:
        last = len(folders) - 1 - folders[::-1].index("jobs")
        if last + 1 < len(folders) - 1:
            job = _KEY_OF_JOB.sub("", folders[last + 1])
            return f"repeat the arm that makes it: run the study again, which runs its job {job}"
    return "repeat the run that makes it, or correct the path in --teachers"
