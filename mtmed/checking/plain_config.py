"""Config files read as plain values: no tags, no objects, bounded in size."""

import json
from pathlib import Path
from typing import Any

__all__ = ["CONFIG_SUFFIXES", "read_plain"]

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
_LARGEST = 10 * 1024 * 1024  # bytes; a config is text that a person wrote


def read_plain(path: Path) -> tuple[Any, str]:
    """Content of a JSON or YAML file, and why there is none (empty if there is).

    Args:
        path: the file; what does not end on ``.yaml`` or ``.yml`` counts as JSON.
    """
    try:
        if path.stat().st_size > _LARGEST:
            return None, f"is larger than {_LARGEST // 1024**2} MB, so it is not read"
        text = path.read_text(encoding="utf-8-sig")
        return _yaml(text) if path.suffix.lower() in CONFIG_SUFFIXES[1:] else (json.loads(text), "")
    except json.JSONDecodeError as error:
        return None, f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except FileNotFoundError:
        return None, "no such file"
    except (OSError, ValueError, RecursionError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None, f"cannot be read ({line})"


def _yaml(text: str) -> tuple[Any, str]:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        return None, "is YAML, for which PyYAML is not installed"
    try:
        return yaml.safe_load(text), ""
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        return None, f"is no plain YAML: {getattr(error, 'problem', None) or error}{where}"
