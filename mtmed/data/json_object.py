"""A JSON file that holds an object, in which a key that stands twice is an error."""

import json
from pathlib import Path
from typing import Any

from mtmed.errors import InputError

__all__ = ["read_json_object"]


def read_json_object(file: Path, *, remedy: str) -> dict[str, Any]:
    """Read a file whose outermost value is an object.

    Args:
        file: the file.
        remedy: what the user should give if it holds something else.

    Raises:
        InputError: if it cannot be read, is not JSON, holds something else or has a key twice, at any depth.
    """

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise InputError(file, f"has the key '{key}' twice", "keep one")
        return dict(pairs)

    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=without_duplicates)
    except UnicodeDecodeError:
        raise InputError(file, "is not text", "give a JSON file") from None
    except json.JSONDecodeError as error:
        raise InputError(file, f"is not JSON: {error.msg} in line {error.lineno}", "correct that line") from None
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})", "check its permissions") from None
    if not isinstance(content, dict):
        raise InputError(file, f"holds a {type(content).__name__}", remedy)
    return content
