"""The files of a config, merged as MONAI merges them; what cannot be read is a problem, not an end."""

import ast
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from mtmed.bundle.active import CommandLine
from mtmed.bundle.options import duplicate_problems
from mtmed.checking.plain_config import read_plain
from mtmed.checking.problem import Problem
from mtmed.errors import InputError

__all__ = ["parse_settings", "read_files"]


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Overrides from ``KEY=VALUE``, where the value is JSON or a Python literal, and else text.

    Raises:
        InputError: for a setting without an equals sign.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not (key and equals):
            raise InputError(f"--set {setting}", "is not KEY=VALUE", "write for example --set epochs=5")
        values[key.lstrip("-")] = _value(text)
    return values


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError):
            continue
    return text


def read_files(files: Sequence[str], settings: dict[str, Any]) -> tuple[CommandLine, dict[str, Any], list[Problem]]:
    """Read config files and overrides.

    Args:
        files: the main config, then overlays.
        settings: overrides by id.

    Returns:
        The command line that would run them, the merged config (empty if a file cannot be read), and the problems.
    """
    given = CommandLine(config_files=tuple(map(str, files)), overrides=settings)
    problems = [problem for file in given.config_files if (problem := _syntax_problem(Path(file))) is not None]
    if problems:
        return given, {}, problems
    problems += [Problem.of("key", error) for error in duplicate_problems(given)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own word on duplicate keys
        parser = ConfigParser()
        try:
            parser.read_config(list(given.config_files))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"overrides an entry that is not there ({_line(error)})"
            remedy = "name the config that it belongs to before it, or correct its keys"
            return given, {}, [*problems, Problem("file", given.config_files[-1], text, remedy)]
        for key, value in settings.items():
            try:
                parser[key] = value
            except (ValueError, KeyError, TypeError, IndexError):
                parent = key.replace("#", "::").rpartition("::")[0]
                problems.append(Problem("option", key, f"there is no entry {parent!r}", "see the keys of the config"))
        try:
            parser.resolve_macro_and_relative_ids()
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(Problem("reference", "%", f"a macro cannot be resolved ({_line(error)})", "correct it"))
    merged: dict[str, Any] = parser.get()
    return given, merged, problems


def _syntax_problem(file: Path) -> Problem | None:
    content, fault = read_plain(file)
    if fault:
        remedy = "name a config" if fault == "no such file" else "correct it, or copy it again"
        return Problem("file", str(file), fault, remedy)
    if not isinstance(content, dict):
        return Problem("file", str(file), f"holds a {type(content).__name__}", "give an object with the config's keys")
    return None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
