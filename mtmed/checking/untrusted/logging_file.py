"""What a ``logging.conf`` would build: its classes and the arguments that Python evaluates."""

import configparser
from collections.abc import Iterator
from pathlib import Path

from mtmed.checking.untrusted.expression import read_expression
from mtmed.checking.untrusted.finding import Finding
from mtmed.checking.untrusted.names import name_fault

__all__ = ["logging_findings"]

_EVALUATED = ("args", "kwargs")
_CLASSES = frozenset({"StreamHandler", "FileHandler", "NullHandler", "Formatter", "handlers.RotatingFileHandler"})


def logging_findings(path: Path) -> Iterator[Finding]:
    """List the classes of a logging configuration and what is in the arguments that would be evaluated."""
    file = str(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, configparser.Error) as error:
        line = (str(error).splitlines() or [""])[0]
        yield Finding(file, "", "logging", path.name, f"cannot be read ({line})")
        return
    for section in parser.sections():
        for key, value in parser[section].items():
            where = f"{section}::{key}"
            if key == "class":
                fault = "" if value.removeprefix("logging.") in _CLASSES else name_fault(value) or "is no known handler"
                yield Finding(file, where, "logging", value, fault)
            elif key in _EVALUATED:
                yield from (Finding(file, where, *found) for found in read_expression(value, {}))
