"""The config that a step runs: what keys it has, without evaluating anything."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mtmed.errors import InputError
from mtmed.studies.file_values import nearest
from mtmed.studies.study import Step

__all__ = ["StepConfig", "load_step_config"]

_MISSING = object()


@dataclass(frozen=True)
class StepConfig:
    """A step's config with its overlays merged.

    Attributes:
        files: absolute paths, in the order of the command line.
        content: the merged config; expressions and references are text.
    """

    files: tuple[Path, ...]
    content: Mapping[str, Any]

    def has(self, key: str) -> bool:
        """Whether a key can be overridden: it is in the config, or something in the config refers to it."""
        return self.get(key, _MISSING) is not _MISSING or bool(
            re.search(rf"@{re.escape(_normal(key))}\b", _normal(json.dumps(self.content)))
        )

    def decides(self, key: str) -> bool:
        """Whether the step has a key whose value does not follow from the checkpoint that it reads."""
        return self.has(key) and "loaded" not in self._reads(_normal(key).partition("::")[0], set())

    def _reads(self, name: str, seen: set[str]) -> set[str]:
        """All keys that the value of a key is made from, and itself."""
        if name not in seen:
            seen.add(name)
            for read in re.findall(r"@(\w+)", json.dumps(self.content.get(name))):
                self._reads(read, seen)
        return seen

    def get(self, key: str, default: Any = None) -> Any:
        """What stands at a key, which may reach inside with ``#`` or ``::``."""
        place: Any = self.content
        for name in _normal(key).split("::"):
            if isinstance(place, Mapping) and name in place:
                place = place[name]
            elif isinstance(place, list) and name.isdigit() and int(name) < len(place):
                place = place[int(name)]
            else:
                return default
        return place

    def check_unchanged(self) -> None:
        """Refuse to go on with files that have changed meanwhile: later runs would not be those of the study.

        Raises:
            InputError: if their merged content is another one, or they cannot be loaded any more.
        """
        try:
            same = _load(self.files) == self.content
        except (ValueError, OSError):
            same = False
        if not same:
            names = ", ".join(map(str, self.files))
            raise InputError(names, "changed while the study ran", "restore it and go on, or choose another --output")

    def check_override(self, key: str, source: str) -> None:
        """Refuse a key that the config does not have.

        Below a component or dictionary a new key may be one of its arguments: it is refused here only if it looks like
        a misspelt one; the bundle itself checks the rest when it starts.

        Raises:
            InputError: naming `source`, which states the key, and the nearest known key.
        """
        if self.has(key):
            return
        parent, _, name = _normal(key).rpartition("::")
        place = self.get(parent) if parent else self.content
        known = [str(item) for item in place] if isinstance(place, Mapping) else []
        if parent and isinstance(place, Mapping) and not get_close_matches(name, known, n=1, cutoff=0.75):
            return
        if parent and known:
            remedy = nearest(name, known)
        else:
            close = get_close_matches(key, [str(item) for item in self.content], n=1)
            remedy = f"did you mean {close[0]!r}?" if close else "see the keys on top of that file"
        raise InputError(f"{source}: {key}", f"{self.files[0].name} has no such key", remedy)


def _load(files: Sequence[Path]) -> dict[str, Any]:
    from monai.bundle import ConfigParser

    content: dict[str, Any] = ConfigParser.load_config_files([str(file) for file in files])
    return content


def _normal(key: str) -> str:
    return key.replace("#", "::").lstrip("+")


def _check_overlays(files: Sequence[Path], whole: StepConfig) -> None:
    """Refuse a key of an overlay that nothing in the config reads; the job would, after all that it needs has run.

    Raises:
        InputError: naming the overlay.
    """
    from monai.bundle import ConfigParser

    base = StepConfig(tuple(files), _load(files[:1]))
    for file in files[1:]:
        for key in ConfigParser.load_config_file(str(file)):
            used = re.search(rf"@{re.escape(_normal(key))}\b", _normal(json.dumps(whole.content)))
            if not used and key not in ("imports", "initialize", "run", "finalize"):
                base.check_override(key, str(file))


def load_step_config(step: Step, bundle: Path, *, source: Path) -> StepConfig:
    """Load a step's config files.

    Args:
        step: the step.
        bundle: folder of the configs.
        source: the study file, for messages.

    Raises:
        InputError: if a file is missing or no config, or if it lacks a key that the study sets.
    """
    files = tuple((bundle / name).resolve() for name in step.config)
    culprit = f"{source}: steps::{step.name}::config"
    for name, file in zip(step.config, files, strict=True):
        if not file.is_file():
            known = sorted(path.name for path in bundle.glob("*.json"))
            raise InputError(culprit, f"{bundle / name} is no file", nearest(name, known))
    try:
        config = StepConfig(files, _load(files))
    except (ValueError, OSError) as error:
        raise InputError(culprit, f"cannot be loaded ({error})", "correct the config") from None
    _check_overlays(files, config)
    for key in ("output_dir", *step.vary):
        if not config.has(key):
            problem = f"{step.config[0]} has no key {key!r}"
            remedy = "every step needs it" if key == "output_dir" else f"take {key} out of its vary"
            raise InputError(f"{source}: steps::{step.name}", problem, remedy)
    return config
