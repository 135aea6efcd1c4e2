r"""Path templates: one small language that both finds files and fills in names.

===================  ===========================================================================================
in a template        matches
===================  ===========================================================================================
``{name}``           the field ``name``: one or more characters except ``/``, as few as will do
``{name:regex}``     the field, restricted by a regular expression: ``{case:\d{4}}``
``{name}`` again     the same text as before, in the same template
``*``                any number of characters except ``/``
``**/``              any number of folders, also none
``[...]``            what is inside, or nothing: ``.nii[.gz]``
anything else        itself
===================  ===========================================================================================

A template that ends in ``/`` matches folders that directly contain files, for example the slices of a scan; other
templates match files.

Filling writes each field's value in its place; an optional part whose field is absent is left out. A template to be
filled has no ``*``.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mtmed.errors import InputError

__all__ = ["Fields", "Key", "Template", "find_files", "list_files", "list_folders", "natural_order"]

Fields = Mapping[str, str | None]
Key = tuple[tuple[str, str | None], ...]


class Template:
    """A path template.

    Args:
        text: the template, with ``/`` between folders.

    Raises:
        InputError: if brackets do not pair, a field has no proper name, or a regular expression is wrong.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.matches_folders = text.endswith("/")
        self.fields: frozenset[str] = frozenset()
        try:
            self._regex = re.compile(self._translate(text))
        except (re.error, OverflowError, RecursionError) as error:
            raise InputError(f"template '{text}'", f"wrong regular expression: {error}", "correct it") from None
        self.fields = frozenset(self._regex.groupindex)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def match(self, path: str) -> dict[str, str | None] | None:
        """Fields of a path that matches as a whole, None if it does not match."""
        match = self._regex.fullmatch(path)
        return None if match is None else match.groupdict()

    def fill(self, fields: Fields) -> str:
        """Put the values of the fields in their places.

        Raises:
            InputError: if a field outside brackets has no value.
        """
        return self._fill(self.text, fields)

    def key(self, fields: Fields) -> Key:
        """Those of the fields that this template has, for pairing with another template's files."""
        return tuple((name, fields[name]) for name in sorted(self.fields))

    def _fill(self, text: str, fields: Fields) -> str:
        filled = ""
        for kind, content in self._pieces(text):
            if kind == "field":
                value = fields.get(content.partition(":")[0])
                if value is None:
                    problem = f"no value for '{{{content}}}'"
                    raise InputError(f"template '{self.text}'", problem, "put the part that may be absent in [ ]")
                filled += value
            elif kind == "optional":
                names = Template(content).fields
                filled += self._fill(content, fields) if all(fields.get(name) is not None for name in names) else ""
            else:
                filled += content
        return filled

    def _translate(self, text: str, seen: set[str] | None = None) -> str:
        """Write the template as a regular expression."""
        seen = set() if seen is None else seen
        regex = ""
        for kind, content in self._pieces(text):
            if kind == "field":
                name, _, allowed = content.partition(":")
                if not name.isidentifier():
                    raise InputError(f"template '{self.text}'", f"'{{{content}}}' has no name", "write {name:regex}")
                regex += f"(?P={name})" if name in seen else f"(?P<{name}>{allowed or '[^/]+?'})"
                seen.add(name)
            elif kind == "optional":
                regex += f"(?:{self._translate(content, seen)})?"
            elif kind == "folders":
                regex += "(?:.*/)?"
            else:
                regex += "[^/]*" if kind == "any" else re.escape(content)
        return regex

    def _pieces(self, text: str) -> list[tuple[str, str]]:
        """Cut the text into (kind, content): ``field``, ``optional``, ``folders``, ``any`` or ``text``."""
        pieces: list[tuple[str, str]] = []
        index = 0
        while index < len(text):
            if text[index] in "{[":
                end = self._closing(text, index)
                pieces.append(("field" if text[index] == "{" else "optional", text[index + 1 : end]))
                index = end + 1
            elif text.startswith("**/", index):
                pieces.append(("folders", "**/"))
                index += 3
            else:
                pieces.append(("any" if text[index] == "*" else "text", text[index]))
                index += 1
        return pieces

    def _closing(self, text: str, start: int) -> int:
        opening, closing = ("{", "}") if text[start] == "{" else ("[", "]")
        depth = 0
        for index in range(start, len(text)):
            depth += (text[index] == opening) - (text[index] == closing)
            if depth == 0:
                return index
        raise InputError(f"template '{self.text}'", f"'{opening}' is never closed", f"add '{closing}'")


def find_files(template: Template, paths: Sequence[str], folder: Path) -> list[tuple[dict[str, str | None], str]]:
    """Find the files, or the folders, that match a template.

    Args:
        template: what to look for.
        paths: paths to look at, as `list_files` gives them, or `list_folders` for a template that matches folders.
        folder: what they are relative to, for messages.

    Returns:
        Fields and path of each match, in natural order.

    Raises:
        InputError: if two files have the same fields, so that one of them cannot be meant.
    """
    found: dict[Key, tuple[dict[str, str | None], str]] = {}
    for path in paths:
        fields = template.match(path)
        if fields is None:
            continue
        key = template.key(fields)
        if key in found:
            problem = f"matches '{template}' with the same fields as {found[key][1]}"
            raise InputError(folder / path, problem, "move one of the two away")
        found[key] = (fields, path)
    return sorted(found.values(), key=lambda item: natural_order(item[1]))


def list_folders(paths: Iterable[str]) -> list[str]:
    """Folders that directly contain one of these files, each with ``/`` at its end."""
    return sorted({f"{parent}/" for parent, slash, _ in (path.rpartition("/") for path in paths) if slash})


def natural_order(text: str) -> list[tuple[int, str]]:
    """Key for sorting in which ``liver_2`` comes before ``liver_10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def list_files(folder: Path) -> Iterator[str]:
    """Paths of all files below a folder, relative and with ``/``.

    Links are followed. Files and folders whose name starts with a dot are left out: macOS writes ``._x`` beside ``x``.
    """
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # a link to a folder above would never end
        folders[:] = [] if real in visited else sorted(name for name in folders if not name.startswith("."))
        if real in visited:
            continue
        visited.add(real)
        for name in files:
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()
