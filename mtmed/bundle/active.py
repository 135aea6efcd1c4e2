"""The bundle configuration that is being run.

MONAI evaluates a config's expressions without telling them which config they stand in. What mtmed does for a run (its
folder, the check of its options, the literal definition of its network) needs the whole config, so this module looks it
up among the callers: MONAI's parser is there whenever one of its expressions is.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

from monai.bundle import ConfigParser

from mtmed.errors import InputError

__all__ = ["CommandLine", "active_parser", "as_given", "command_line", "literal"]

# arguments of MONAI's ``run`` and of its workflow, which are no ids of the config
_ARGUMENTS = frozenset(
    {"config_file", "meta_file", "logging_file", "run_id", "init_id", "final_id", "tracking", "workflow_name"}
    | {"workflow_type", "properties_path"}
)


@dataclass(frozen=True)
class CommandLine:
    """What ``python -m monai.bundle run`` was given.

    Attributes:
        config_files: paths, the first one is the main config, the others override it.
        overrides: ids and values given on the command line or in an ``--args_file``.
        args_file: path of that file.
        from_args_file: the ids that stand in it and not on the command line.
        tracking: name or settings of MONAI's experiment tracking.
    """

    config_files: tuple[str, ...]
    overrides: Mapping[str, Any]
    args_file: str | None = None
    from_args_file: frozenset[str] = frozenset()
    tracking: Any = None


_CHECKED: ContextVar[CommandLine | None] = ContextVar("checked", default=None)


@contextmanager
def as_given(given: CommandLine) -> Iterator[None]:
    """Let `command_line` answer as if MONAI's ``run`` had been given this, for a config that is checked and not run."""
    token = _CHECKED.set(given)
    try:
        yield
    finally:
        _CHECKED.reset(token)


def _callers() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


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
            return _command_line(frame.f_locals)
    return _CHECKED.get()


def _command_line(arguments: Mapping[str, Any]) -> CommandLine:
    args_file = arguments.get("args_file")
    # like MONAI, a value given as null counts as not given
    typed = {key: value for key, value in (arguments.get("override") or {}).items() if value is not None}
    given = {**_read(args_file), **typed}
    files = arguments.get("config_file") or given.get("config_file") or ()
    overrides = {key: value for key, value in given.items() if key not in _ARGUMENTS}
    return CommandLine(
        config_files=(files,) if isinstance(files, str) else tuple(files),
        overrides=overrides,
        args_file=args_file if isinstance(args_file, str) else None,
        from_args_file=frozenset(overrides) - frozenset(typed),
        tracking=arguments.get("tracking") or given.get("tracking"),
    )


def _read(args_file: Any) -> dict[str, Any]:
    if isinstance(args_file, str):
        return dict(ConfigParser.load_config_file(args_file))
    return dict(args_file) if isinstance(args_file, Mapping) else {}


def literal(identifier: str) -> dict[str, Any]:
    """An entry of the running config as plain values: references and expressions evaluated, nothing instantiated.

    Args:
        identifier: id of a dictionary, or of an expression that gives one, for example ``"network_def"``.

    Raises:
        InputError: if the entry is not a dictionary.
    """
    parser = active_parser()
    entry = parser.get(identifier)
    if isinstance(entry, str):
        entry = parser.get_parsed_content(identifier)
        if isinstance(entry, Mapping):
            return dict(entry)
    if not isinstance(entry, Mapping):
        raise InputError(identifier, f"is {entry!r}, not a dictionary", "override single keys of it")
    return {
        key: value if key.startswith("_") else parser.get_parsed_content(f"{identifier}::{key}")
        for key, value in entry.items()
    }
