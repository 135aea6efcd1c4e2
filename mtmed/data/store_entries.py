"""Which entries of a volume store are there, undamaged to the last bit."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from mtmed.data.record import Record, file_checksum
from mtmed.data.volumes import DATA_NAME, RECORD_NAME

__all__ = ["whole_entries", "whole_record", "with_bar"]

Item = TypeVar("Item")


def whole_record(entry: Path) -> Record | None:
    """Read all of an entry; gives its record, or None if it is missing or its checksums do not match."""
    try:
        record = Record.parse((entry / RECORD_NAME).read_text())
        data = entry / DATA_NAME
        whole = data.stat().st_size == record.size and file_checksum(data) == record.checksum
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def whole_entries(entries: Mapping[int, Path], *, workers: int) -> dict[int, tuple[Path, Record]]:
    """Those of some entries that are there and undamaged, with their records.

    Args:
        entries: folders by index.
        workers: threads.
    """
    with ThreadPoolExecutor(max(1, workers)) as executor:
        records = executor.map(whole_record, entries.values())
        pairs = with_bar(zip(entries.items(), records, strict=True), "Verifying volumes", len(entries))
        return {index: (entry, record) for (index, entry), record in pairs if record}


def with_bar(items: Iterable[Item], text: str, total: int) -> Iterator[Item]:
    """Give the items in turn, with a progress bar if a person may be looking."""
    yield from tqdm(items, text, total, disable=not (total and sys.stderr.isatty()), leave=False)
