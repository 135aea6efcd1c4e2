"""What a config file would import, call, read and open, told from its text alone."""

import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

from monai.bundle.config_item import ComponentLocator

from mtmed.checking.plain_config import CONFIG_SUFFIXES
from mtmed.checking.untrusted.expression import imported_names, read_expression, syntax_tree
from mtmed.checking.untrusted.finding import Finding
from mtmed.checking.untrusted.names import name_fault
from mtmed.checking.untrusted.paths import path_fault
from mtmed.duplicate_keys import duplicate_keys

__all__ = ["config_findings", "imports_of", "macro_files"]

_PLAIN_KEY = re.compile(r"[+\w:#.,\-/ ()%]*")
_FREE_TEXT = frozenset({"_desc_"})
_SAFE_VALUES = {"weights_only": True, "allow_pickle": False}


def imports_of(content: Any) -> dict[str, set[str]]:
    """Names that import statements anywhere in a config bind, with all that each may stand for."""
    names: dict[str, set[str]] = {}
    for _, value in _leaves(content):
        if isinstance(value, str) and value.startswith("$") and "import" in value:
            tree = syntax_tree(value[1:])
            for name, meaning in imported_names(tree).items() if tree is not None else ():
                names.setdefault(name, set()).add(meaning)
    return names


def macro_files(content: Any) -> list[str]:
    """Paths of the files from which a config takes parts by ``%FILE::id``."""
    values = [value for _, value in _leaves(content) if isinstance(value, str) and value.startswith("%")]
    files = [value[1:].replace("#", "::").partition("::")[0] for value in values]
    return [file for file in dict.fromkeys(files) if file.lower().endswith(CONFIG_SUFFIXES)]


def config_findings(
    file: str, content: Any, *, imported: Mapping[str, Set[str]], locator: ComponentLocator, metadata: bool = False
) -> Iterator[Finding]:
    """List what a config names.

    Args:
        file: its path, for the report.
        content: as `mtmed.checking.plain_config.read_plain` gave it.
        imported: names that this config and those beside it bind by imports.
        locator: MONAI's table of the components that may be named without their module.
        metadata: whether it is a ``metadata.json``, whose texts describe and are no paths.
    """
    for doubled in duplicate_keys(file):
        reason = f"stands again in line {doubled.line}, so what a reader sees first is not what runs"
        yield Finding(file, doubled.key, "key", doubled.key, reason)
    for where, value in _leaves(content):
        name = where.rpartition("::")[2]
        if not _PLAIN_KEY.fullmatch(name):
            # MONAI puts the keys above a relative reference into the expression that holds it
            yield Finding(file, where, "key", name, "is no plain key: it could become a part of an expression")
        if name in _SAFE_VALUES and value is not _SAFE_VALUES[name]:
            yield Finding(file, where, "call", f"{name}: {value}", "may load a pickle")
        if name == "_mode_" and value == "debug":
            yield Finding(file, where, "call", "_mode_: debug", "starts a debugger")
        if isinstance(value, str) and name not in _FREE_TEXT:
            yield from _text_findings(file, where, value, imported, locator, metadata)


def _text_findings(
    file: str,
    where: str,
    value: str,
    imported: Mapping[str, Set[str]],
    locator: ComponentLocator,
    metadata: bool,
) -> Iterator[Finding]:
    if value.startswith("$"):
        yield from (Finding(file, where, *found) for found in read_expression(value[1:], imported))
    elif where.rpartition("::")[2] == "_target_":
        if not value.startswith("@"):
            yield Finding(file, where, "target", value, _target_fault(value, locator))
    elif value.startswith("%"):
        yield Finding(file, where, "macro", value, path_fault(value[1:])[1])
    else:
        kind, reason = path_fault(value)
        # a study file stands in a folder of its bundle and says so
        if reason and (where, value) != ("bundle", ".."):
            yield Finding(file, where, kind, value, "" if metadata else reason)


def _target_fault(target: str, locator: ComponentLocator) -> str:
    """Why a ``_target_`` is suspicious; one without a module is looked up as MONAI does, among MONAI's own."""
    modules = locator.get_component_module_name(target)
    if modules is None:
        return name_fault(target)
    names = [modules] if isinstance(modules, str) else modules
    return next(filter(None, (name_fault(f"{module}.{target}") for module in names)), "")


def _leaves(content: Any) -> Iterator[tuple[str, Any]]:
    """Every entry that is no dictionary or list, and every key, with its id; what aliases share is passed once."""
    waiting: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()
    while waiting:
        where, value = waiting.pop()
        if not isinstance(value, dict | list):
            yield where, value
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict) and value and where:
            yield where, None
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        waiting += [(f"{where}::{key}" if where else str(key), inner) for key, inner in reversed(items)]
