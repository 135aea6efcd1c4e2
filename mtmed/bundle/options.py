"""Unknown options are refused; MONAI would take them silently and go on with the old value."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties

from mtmed.bundle.active import active_parser, command_line
from mtmed.errors import InputError

__all__ = ["check_options"]

_REFERENCE = re.compile(r"@([A-Za-z_]\w*(?:(?:::|#)\w+)*)")
_OF_MONAI = frozenset(
    {"imports", "initialize", "run", "finalize", "tracking_uri", "experiment_name", "run_name", "save_execute_config"}
    | {"is_not_rank0", "_meta_", "displayable_configs"}
    | {p["id"].split("::")[0] for table in (TrainProperties, InferProperties, MetaProperties) for p in table.values()}
)


def _ids(config: Any, prefix: str = "") -> Iterator[str]:
    """Every id of a config: ``train``, ``train::trainer``, ``train::trainer::max_epochs``, ..."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        identifier = f"{prefix}::{key}" if prefix else str(key)
        yield identifier
        yield from _ids(value, identifier)


def _references(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        if config.startswith(("@", "$")):
            yield from (name.replace("#", "::") for name in _REFERENCE.findall(config))
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _references(value)
    elif isinstance(config, list):
        for value in config:
            yield from _references(value)


def _free(identifier: str, known: set[str], config: Mapping[str, Any]) -> bool:
    """Whether an id lies in a plain dictionary whose keys are the user's own, such as class weights by name."""
    parent = identifier.rpartition("::")[0]
    entry: Any = config
    for key in parent.split("::") if parent else ():
        if isinstance(entry, list):
            entry = entry[int(key)] if key.isdigit() and int(key) < len(entry) else None
        else:
            entry = entry.get(key) if isinstance(entry, Mapping) else None
    return parent in known and isinstance(entry, Mapping) and "_target_" in entry and _accepts(entry, identifier)


def _accepts(component: Mapping[str, Any], identifier: str) -> bool:
    """Whether a component's class takes the argument; what cannot be found out is left to the component."""
    import inspect
    from pydoc import locate

    target = locate(str(component["_target_"]))
    try:
        parameters = inspect.signature(target).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return target is None
    name = identifier.rpartition("::")[2]
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or name.startswith("_")


def _refuse_duplicate_keys(path: str) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        doubled = {key for key in keys if keys.count(key) > 1}
        if doubled:
            raise InputError(f"{path}: {sorted(doubled)[0]}", "the key stands twice", "remove one of the two")
        return dict(pairs)

    if path.endswith(".json"):
        json.loads(Path(path).read_text(), object_pairs_hook=unique)


def check_options() -> None:
    """Refuse options that nothing reads.

    An id is known if the main config has it, an entry refers to it, MONAI defines it, or it is an argument of the
    component it is given to. This holds for the command line, ``--args_file`` and every further config file.

    Raises:
        InputError: for an unknown option (with the nearest known one) or a key that stands twice in a config file.
    """
    given = command_line()
    if given is None or not given.config_files:
        return
    for path in given.config_files:
        _refuse_duplicate_keys(path)
    main = ConfigParser.load_config_file(given.config_files[0])
    merged = active_parser().get()
    known = set(_ids(main)) | set(_references(merged)) | _OF_MONAI
    asked = [(key.replace("#", "::").lstrip("+"), "command line") for key in given.overrides]
    for path in given.config_files[1:]:
        overlay = ConfigParser.load_config_file(path)
        asked += [(key.replace("#", "::").lstrip("+"), path) for key in overlay]
    for identifier, source in asked:
        if identifier in known or identifier.split("::")[0] in ("_meta_",) or _free(identifier, known, main):
            continue
        near = difflib.get_close_matches(identifier, [k for k in known if not k[-1].isdigit()], n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"see the keys on top of {given.config_files[0]}"
        raise InputError(identifier, f"unknown option (from the {source})", hint)
