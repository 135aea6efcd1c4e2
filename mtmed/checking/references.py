"""References of a config that lead nowhere or back to themselves."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from mtmed.checking.entries import entries
from mtmed.checking.problem import Problem

__all__ = ["reference_problems"]


def reference_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """List every ``@id`` that is not in the config, and every circle of references."""
    parser = ConfigParser(dict(config))
    parser.parse()
    items = parser.ref_resolver.items
    graph: dict[str, list[str]] = {}
    for identifier, item in items.items():
        content = item.get_config()
        if isinstance(content, str):
            for name in ReferenceResolver.match_refs_pattern(content):
                if name not in items:
                    yield _missing(identifier, name, config)
        graph[identifier] = [
            name for name in ReferenceResolver.find_refs_in_config(content, identifier) if name in items
        ]
    yield from _circles(graph)


def _missing(identifier: str, name: str, config: Mapping[str, Any]) -> Problem:
    known = [where for where, _ in entries(config)]
    parent, _, last = name.rpartition("::")
    above = next((entry for where, entry in entries(config) if where == parent), None)
    if isinstance(above, str):
        problem = f"refers to @{name}, but {parent} is an expression, into which no reference reaches"
        return Problem("reference", identifier, problem, f"write @{parent}[{last!r}]")
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    remedy = f"did you mean '@{near[0]}'?" if near else "correct the reference"
    return Problem("reference", identifier, f"refers to @{name}, which is not in the config", remedy)


def _circles(graph: Mapping[str, list[str]]) -> Iterator[Problem]:
    """Each circle once, named by the entry at which the walk met it."""
    done: set[str] = set()
    for start in graph:
        if start in done:
            continue
        path, waiting = [start], [iter(graph[start])]
        while waiting:
            following = next(waiting[-1], None)
            if following is None:
                waiting.pop()
                done.add(path.pop())
            elif following in path:
                circle = [*path[path.index(following) :], following]
                yield Problem("reference", following, f"refers to itself: {' -> '.join(circle)}", "break the circle")
            elif following not in done:
                path.append(following)
                waiting.append(iter(graph[following]))
