"""Tables of masks (CSV): parsed once for the many cases that share one, and again when the file changes."""

import csv
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from mtmed.errors import InputError
from mtmed.transforms.nifti import check_file

__all__ = ["KeptTables", "table_header", "table_rows"]

Table = TypeVar("Table")


class KeptTables(Generic[Table]):
    """Parsed tables by path.

    Args:
        parse: makes a table of a file; may raise `InputError`, which is kept likewise.
    """

    def __init__(self, parse: Callable[[Path], Table]) -> None:
        self._lock = threading.Lock()

        def parse_or_tell(path: Path, modified: int, size: int) -> Table | InputError:
            try:
                return parse(path)
            except InputError as error:
                # without its traceback, which would keep the rows that were read
                return InputError(error.culprit, error.problem, error.remedy)

        self._kept = lru_cache(maxsize=4)(parse_or_tell)

    def read(self, path: str | Path) -> Table:
        """The table of a file; one that did not change since it was read last is not read again.

        Raises:
            InputError: see `mtmed.transforms.nifti.check_file`; or as the parser raises.
        """
        path = Path(path)
        check_file(path)
        stat = path.stat()
        with self._lock:  # the threads that fill a store all want the same table
            table = self._kept(path, stat.st_mtime_ns, stat.st_size)
        if isinstance(table, InputError):
            raise InputError(table.culprit, table.problem, table.remedy)
        return table


def table_header(path: Path) -> list[str]:
    """Names of the columns of a table as they stand in the file, none of an empty file.

    Raises:
        InputError: the file cannot be read as text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def table_rows(path: Path, columns: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """Number of its line and wanted fields, without blanks around them, of each row below the header.

    Raises:
        InputError: the file cannot be read as text, or a row has more or fewer fields than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream)
            header = next(lines, [])
            for fields in lines:
                if not fields:
                    continue
                if len(fields) != len(header):
                    problem = f"line {lines.line_num} has {len(fields)} fields, expected {len(header)}"
                    raise InputError(path, problem, "write the table again")
                yield lines.line_num, [fields[column].strip() for column in columns]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(path, f"cannot be read as a table ({error})", "write it again as UTF-8 CSV")
