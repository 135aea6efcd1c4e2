"""The bundle configuration that is being run.

MONAI evaluates a config's expressions without telling them which config they stand in. What mtmed does for a run (its
folder, the check of its options, the literal definition of its network) needs the whole config, so this module looks it
up among the callers: MONAI's parser is there whenever one of its expressions is.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from monai.bundle import ConfigParser

from mtmed.errors import InputError

__all__ = ["CommandLine", "active_parser", "command_line", "literal"]


@dataclass(frozen=True)
class CommandLine:
    """What ``python -m monai.bundle run`` was given.

    Attributes:
        config_files: paths, the first one is the main config, the others override it.
        overrides: ids and values given on the command line or in an ``--args_file``.
    """

    config_files: tuple[str, ...]
    overrides: Mapping[str, Any]


def _callers() -> list[FrameType]:
    frames, frame = [], inspect.currentframe()
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def active_parser() -> ConfigParser:
    """Parser of the config that is being run.

    Raises:
        InputError: when called from outside a bundle's config.
    """
    for frame in _callers():
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigParser):
            return owner
    raise InputError("mtmed.bundle", "no bundle is running", "use this only in the expressions of a bundle's config")


def command_line() -> CommandLine | None:
    """What MONAI's ``run`` command was given; None when the config is run from Python."""
    for frame in _callers():
        if frame.f_code.co_name == "run" and frame.f_globals.get("__name__") == "monai.bundle.scripts":
            given = {**_args_file(frame.f_locals.get("args_file")), **dict(frame.f_locals.get("override") or {})}
            files = frame.f_locals.get("config_file") or given.get("config_file") or ()
            names = {"config_file", "meta_file", "logging_file", "run_id", "init_id", "final_id", "tracking"}
            overrides = {key: value for key, value in given.items() if key not in names}
            return CommandLine((files,) if isinstance(files, str) else tuple(files), overrides)
    return None


def _args_file(path: Any) -> dict[str, Any]:
    return dict(ConfigParser.load_config_file(path)) if isinstance(path, str) else {}


def literal(identifier: str) -> dict[str, Any]:
    """An entry of the running config as plain values: references and expressions evaluated, nothing instantiated.

    Args:
        identifier: id of a dictionary, for example ``"network_def"``.
    """
    parser = active_parser()
    entry = parser[identifier]
    return {
        key: value if key.startswith("_") else parser.get_parsed_content(f"{identifier}::{key}")
        for key, value in dict(entry).items()
    }
