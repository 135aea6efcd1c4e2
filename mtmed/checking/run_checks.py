"""The checks that stand in a config's own ``run`` list, carried out without the run."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from mtmed.checking.expressions import expression_tree
from mtmed.checking.lazy_config import LazyConfig

__all__ = ["run_own_checks"]

_CHECKS = ("mtmed.bundle.", "mtmed.data.load_cohort")


def run_own_checks(config: LazyConfig) -> None:
    """Evaluate the items of ``run`` that are calls of checks, and the lists that it refers to; faults are kept there.

    Whatever else is in ``run``, such as the training, is left alone.

    Args:
        config: the config; its substitutes decide what is not called.
    """
    for identifier, entry in _items(config, "run", config.get("run")):
        if isinstance(entry, str) and _is_check(entry):
            config.value(identifier)


def _items(config: LazyConfig, identifier: str, entry: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(entry, list):
        for index, item in enumerate(entry):
            yield from _items(config, f"{identifier}::{index}", item)
    elif isinstance(entry, str) and entry.startswith("@") and isinstance(config.get(entry[1:]), list | Mapping):
        name = entry[1:].replace("#", "::")
        yield from _items(config, name, config.get(name))
    else:
        yield identifier, entry


def _is_check(entry: str) -> bool:
    """Whether an expression is a call of a check, maybe under a condition."""
    if not entry.startswith("$"):
        return False
    try:
        statement = expression_tree(entry).body[0]
    except (SyntaxError, ValueError, IndexError):
        return False
    node = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(node, ast.IfExp):
        node = node.body
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(_CHECKS)
