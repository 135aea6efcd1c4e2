"""Keys that stand twice in an object of a config file; a JSON reader keeps the last one and says nothing."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DuplicateKey", "duplicate_keys"]

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')


@dataclass(frozen=True)
class DuplicateKey:
    """A key that stands again in the same object.

    Attributes:
        key: the key.
        line: where it stands again, counted from 1.
    """

    key: str
    line: int


def duplicate_keys(path: str | Path) -> list[DuplicateKey]:
    """Find the keys of a JSON or YAML file that stand twice, at any depth; nothing of it is built.

    Args:
        path: the file; what does not end on ``.yaml`` or ``.yml`` counts as JSON. It must be well-formed.
    """
    text = Path(path).read_text(encoding="utf-8-sig")
    if str(path).lower().endswith((".yaml", ".yml")):
        return _of_yaml(text)
    return _of_json(text)


def _of_json(text: str) -> list[DuplicateKey]:
    found: list[DuplicateKey] = []
    keys: list[set[str] | None] = []  # of each open bracket; None for a list
    word, position = "", 0
    for token in _TOKEN.finditer(text):
        symbol = token.group()
        if symbol[0] == '"':
            word, position = symbol, token.start()
        elif symbol in "{[":
            keys.append(set() if symbol == "{" else None)
        elif symbol in "}]":
            keys.pop()
        elif symbol == ":" and keys[-1] is not None:
            key = json.loads(word)
            if key in keys[-1]:
                found.append(DuplicateKey(key, text.count("\n", 0, position) + 1))
            keys[-1].add(key)
    return found


def _of_yaml(text: str) -> list[DuplicateKey]:
    import yaml  # type: ignore[import-untyped]  # MONAI needs it for YAML configs only

    found: list[DuplicateKey] = []
    waiting: list[Any] = [yaml.compose(text, yaml.SafeLoader)]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        found.append(DuplicateKey(key.value, key.start_mark.line + 1))
                    keys.add(key.value)
                waiting += [key, value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return sorted(found, key=lambda item: item.line)
