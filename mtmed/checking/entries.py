"""All entries of a config with their ids."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["entries"]


def entries(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of a config and what is in it: ``("train", {...}), ("train::dataset", {...}), ...``."""
    items = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        identifier = f"{prefix}::{key}" if prefix else str(key)
        yield identifier, value
        yield from entries(value, identifier)
