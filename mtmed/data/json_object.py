"""A JSON file that holds an object, in which a key that stands twice is an error."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mtmed.errors import InputError

__all__ = ["read_json_object"]

_LARGEST = 2**28  # bytes; a data list of a million scans has this size


def read_json_object(file: Path, *, remedy: str) -> dict[str, Any]:
    """Read a file whose outermost value is an object.

    Args:
        file: the file.
        remedy: what the user should give if it holds something else.

    Raises:
        InputError: if it cannot be read, is larger than 256 MiB, is not JSON, nests deeper than Python reads, holds
            something else or has a key twice, at any depth.
    """

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise InputError(file, f"has the key '{key}' twice", "keep one")
        return found

    try:
        if file.stat().st_size > _LARGEST:
            raise InputError(file, "is larger than 256 MiB", remedy)
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=without_duplicates)
    except UnicodeDecodeError:
        raise InputError(file, "is not text", "give a JSON file") from None
    except json.JSONDecodeError as error:
        raise InputError(file, f"is not JSON: {error.msg} in line {error.lineno}", "correct that line") from None
    except RecursionError:
        raise InputError(file, "nests too many lists or objects into each other", remedy) from None
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})", "check its permissions") from None
    except InputError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise InputError(file, f"holds a value that cannot be read ({error})", "correct it") from None
    if not isinstance(content, dict):
        raise InputError(file, f"holds a {type(content).__name__}", remedy)
    return content
