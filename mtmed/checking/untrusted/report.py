"""``mtmed check --untrusted``: everything that configs or a bundle's folder would import, call and open."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monai.bundle.config_item import ComponentLocator

from mtmed.checking.plain_config import CONFIG_SUFFIXES, read_plain
from mtmed.checking.untrusted.config import config_findings, imports_of, macro_files
from mtmed.checking.untrusted.finding import Finding, printable
from mtmed.checking.untrusted.folder import file_findings, files_of
from mtmed.checking.untrusted.logging_file import logging_findings
from mtmed.checking.untrusted.paths import path_fault
from mtmed.errors import InputError
from mtmed.text_table import print_table

__all__ = ["as_records", "check_untrusted", "print_findings"]

_METADATA = "metadata.json"


def check_untrusted(paths: Sequence[str | Path]) -> list[Finding]:
    """List what configs would do, without evaluating, importing or loading anything of them.

    A folder stands for all files in it: configs, ``logging.conf``, weights, code. Beside a config that is named alone,
    ``metadata.json`` and ``logging.conf`` are read too, since MONAI reads them with it, and so is each file that it
    takes parts from.

    Args:
        paths: configs and folders of bundles.

    Returns:
        What was found, the suspicious first.

    Raises:
        InputError: for a path that is not there, or a file that is no config.
    """
    findings: list[Finding] = []
    configs: dict[Path, Any] = {}
    loggings: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            for file in files_of(path):
                findings += file_findings(file, path)
                if file.suffix.lower() in CONFIG_SUFFIXES and file.is_file() and not file.is_symlink():
                    configs[file] = None
                elif file.name == "logging.conf" and not file.is_symlink():
                    loggings.append(file)
        elif not path.is_file():
            raise InputError(path, "no such file or folder", "name configs or the folder of a bundle")
        elif path.suffix.lower() not in CONFIG_SUFFIXES:
            raise InputError(
                path, "is no config", f"name a file that ends on {', '.join(CONFIG_SUFFIXES)}, or a folder"
            )
        else:
            configs[path] = None
            if (beside := path.with_name(_METADATA)).is_file():
                configs[beside] = None
            if (logging_file := path.with_name("logging.conf")).is_file() and logging_file not in loggings:
                loggings.append(logging_file)
    findings += _read_all(configs)
    imported: dict[str, set[str]] = {}
    for content in configs.values():
        for name, meanings in imports_of(content).items():
            imported.setdefault(name, set()).update(meanings)
    locator = ComponentLocator()
    for file, content in configs.items():
        if content is not None:
            metadata = file.name == _METADATA
            findings += config_findings(str(file), content, imported=imported, locator=locator, metadata=metadata)
    for file in loggings:
        findings += logging_findings(file)
    return sorted(findings, key=lambda item: not item.reason)


def _read_all(configs: dict[Path, Any]) -> list[Finding]:
    """Read the configs, and those that they take parts from, into the table."""
    findings: list[Finding] = []
    waiting = list(configs)
    while waiting:
        file = waiting.pop(0)
        configs[file], fault = read_plain(file)
        if fault:
            findings.append(Finding(str(file), "", "file", file.name, fault))
        for name in macro_files(configs[file]):
            # MONAI looks from where it is run, people write from where the config is
            for other in (Path(name), file.parent / name):
                if not path_fault(name)[1] and other.is_file() and other not in configs:
                    configs[other] = None
                    waiting.append(other)
    return findings


def print_findings(findings: Sequence[Finding]) -> None:
    """Print one row for each different thing: how often it is named, and where first."""
    counts = Counter((item.grade, item.kind, item.what, item.reason) for item in findings)
    first: dict[tuple[str, str, str, str], Finding] = {}
    for item in findings:
        first.setdefault((item.grade, item.kind, item.what, item.reason), item)
    rows = [("grade", "kind", "what", "times", "first in", "why")]
    for key, count in counts.items():
        item = first[key]
        place = f"{Path(item.file).name}: {item.where}" if item.where else Path(item.file).name
        times, reason = str(count), printable(item.reason, width=100)
        rows.append((item.grade, item.kind, printable(item.what), times, printable(place), reason))
    print_table(rows)
    suspicious = sum(1 for item in findings if item.reason)
    print(f"{len(findings)} found, {suspicious} suspicious; nothing was run, imported or loaded")


def as_records(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """The findings as plain values."""
    return [{**asdict(item), "grade": item.grade} for item in findings]
